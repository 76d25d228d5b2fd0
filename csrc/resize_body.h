/* resize_body.h - the loops of resize.c; see simd.h. */

/* Pixels of a line from x on, each channel alone. */
TARGET static void NAME(across_plain)(const axis *a, uint32_t x, const uint8_t *from, uint32_t c, uint8_t *to) {
    for (; x < a->n; x++) {
        const int32_t *weights = a->weights + (uint64_t)x * a->most;
        const uint8_t *pixel = from + (uint64_t)a->first[x] * c;
        for (uint32_t channel = 0; channel < c; channel++) {
            uint32_t sum = HALF;
            for (int32_t k = 0; k < a->count[x]; k++) {
                sum += (uint32_t)weights[k] * pixel[(uint32_t)k * c + channel];
            }
            to[x * c + channel] = clipped(sum);
        }
    }
}

#if LEVEL > 0
/* Which bytes of a vector become numbers of 16 bits: for each channel two pixels beside one another. */
#define TWO_PIXELS(k) (k), -1, (k) + 3, -1, (k) + 1, -1, (k) + 4, -1, (k) + 2, -1, (k) + 5, -1, -1, -1, -1, -1
#define FOUR_TIMES(k) (k), (k) + 1, (k) + 2, (k) + 3, (k), (k) + 1, (k) + 2, (k) + 3, (k), (k) + 1, (k) + 2, (k) + 3, \
                      (k), (k) + 1, (k) + 2, (k) + 3

/* Pixel x of n lines, 1 or LINES, that lie `row` bytes apart: several lines take the same weights, spread once. */
MAPIX_INLINE TARGET void NAME(triple)(const axis *a, uint32_t x, const uint8_t *from, uint64_t row, uint8_t *const *to,
                                      const uint32_t n) {
    const __m256i pixels = _mm256_setr_epi8(TWO_PIXELS(0), TWO_PIXELS(6));
    const __m256i high_part = _mm256_setr_epi8(FOUR_TIMES(0), FOUR_TIMES(4));
    const __m256i low_part = _mm256_setr_epi8(FOUR_TIMES(8), FOUR_TIMES(12));
    const int16_t *pairs = a->pairs + (uint64_t)x * a->steps * 2 * TAPS;
    const uint8_t *begin = from + 3 * (uint64_t)a->first[x];
    __m256i high[LINES], low[LINES];
    for (uint32_t i = 0; i < n; i++) {
        high[i] = _mm256_setzero_si256();
        low[i] = _mm256_set1_epi32(HALF / 2); /* of two halves that are added at the end */
    }
    for (uint32_t k = 0; k < a->steps; k++, pairs += 2 * TAPS, begin += STEP_NBYTES) {
        const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)pairs));
        const __m256i highs = _mm256_shuffle_epi8(both, high_part), lows = _mm256_shuffle_epi8(both, low_part);
        for (uint32_t i = 0; i < n; i++) {
            const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(begin + i * row));
            const __m256i numbers = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), pixels);
            high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(numbers, highs));
            low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(numbers, lows));
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        const __m256i sums = _mm256_add_epi32(_mm256_slli_epi32(high[i], LOW_BITS), low[i]);
        const __m128i front = _mm256_castsi256_si128(sums), back = _mm256_extracti128_si256(sums, 1);
        const __m128i sum = _mm_add_epi32(front, back);
        const __m128i words = _mm_packs_epi32(_mm_srai_epi32(sum, WEIGHT_BITS), sum);
        const int32_t pixel = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
        memcpy(to[i] + 3 * (uint64_t)x, &pixel, sizeof pixel); /* its fourth byte is the next pixel's */
    }
}

#define WIDE(row, k) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)((row) + 8 * (k))))
#define SCALED(row, k, weight) _mm256_mullo_epi32(WIDE(row, k), weight)
#define WHOLE(sums) _mm256_srai_epi32(sums, WEIGHT_BITS)
#endif

/* Write the sum of n lines, each times its weight. */
TARGET static void NAME(down)(const uint8_t *const *rows, const int32_t *weights, uint32_t n, uint64_t nbytes,
                              uint8_t *to) {
    uint64_t i = 0;
#if LEVEL > 0
    for (; i + 32 <= nbytes; i += 32) {
        __m256i first = _mm256_set1_epi32(HALF), second = first, third = first, fourth = first;
        for (uint32_t k = 0; k < n; k++) {
            const __m256i weight = _mm256_set1_epi32(weights[k]);
            const uint8_t *row = rows[k] + i;
            first = _mm256_add_epi32(first, SCALED(row, 0, weight));
            second = _mm256_add_epi32(second, SCALED(row, 1, weight));
            third = _mm256_add_epi32(third, SCALED(row, 2, weight));
            fourth = _mm256_add_epi32(fourth, SCALED(row, 3, weight));
        }
        const __m256i front = _mm256_packs_epi32(WHOLE(first), WHOLE(second));
        const __m256i back = _mm256_packs_epi32(WHOLE(third), WHOLE(fourth));
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256((__m256i *)(void *)(to + i),
                            _mm256_permutevar8x32_epi32(_mm256_packus_epi16(front, back), order));
    }
#endif
    for (; i < nbytes; i++) {
        uint32_t sum = HALF;
        for (uint32_t k = 0; k < n; k++) {
            sum += (uint32_t)weights[k] * rows[k][i];
        }
        to[i] = clipped(sum);
    }
}

/* Scale n lines across, 1..LINES, that lie `row` bytes apart; `left` bytes of the picture begin with the last one. */
TARGET static void NAME(across)(const axis *a, uint32_t c, const uint8_t *from, uint64_t row, uint64_t left,
                                uint8_t *const *to, uint32_t n) {
    uint32_t x = 0;
#if LEVEL > 0
    if (c == 3) { /* the last pixels, of which 16 bytes would reach beyond the picture, are left to plain C */
        const uint32_t nfast = left >= a->reach ? a->n : a->nfast;
        for (; n == LINES && x < nfast; x++) {
            NAME(triple)(a, x, from, row, to, LINES);
        }
        for (uint32_t i = 0; i < n && n < LINES; i++) {
            for (x = 0; x < nfast; x++) {
                NAME(triple)(a, x, from + i * row, row, to + i, 1);
            }
        }
    }
#else
    (void)left;
#endif
    for (uint32_t i = 0; i < n; i++) {
        NAME(across_plain)(a, x, from + i * row, c, to[i]);
    }
}

/* Line y of the output, from lines that were scaled across.  The lines before *next that y needs are in the ring, and
 * those that are not are scaled LINES at a time. */
TARGET static void NAME(across_then_down)(const mapix_resizing *r, const workshop *s, uint32_t y, uint32_t *next,
                                          uint8_t *to) {
    const axis *a = &s->down;
    const uint32_t first = (uint32_t)a->first[y], n = (uint32_t)a->count[y], nring = a->most + LINES - 1;
    while (*next < first + n) {
        const uint32_t begin = *next > first ? *next : first, left = r->h - begin;
        uint8_t *lines[LINES];
        for (uint32_t i = 0; i < LINES; i++) {
            lines[i] = s->ring + (begin + i) % nring * s->line_nbytes;
        }
        *next = begin + (left < LINES ? left : LINES);
        NAME(across)(&s->across, r->c, r->pixels + begin * r->row, r->row, bytes_from(r, *next - 1), lines,
                     *next - begin);
    }
    for (uint32_t k = 0; k < n; k++) {
        s->rows[k] = s->ring + (first + k) % nring * s->line_nbytes;
    }
    NAME(down)(s->rows, a->weights + (uint64_t)y * a->most, n, (uint64_t)r->to_w * r->c, to);
}

/* The same, scaled down first, or in one direction, or not at all; returns where it is. */
TARGET static const uint8_t *NAME(down_then_across)(const mapix_resizing *r, const workshop *s, uint32_t y,
                                                    uint8_t *to) {
    const axis *a = &s->down;
    const uint8_t *line = r->pixels + y * r->row;
    if (!a->identical) {
        const uint32_t first = (uint32_t)a->first[y], n = (uint32_t)a->count[y];
        uint8_t *wide = s->across.identical ? to : s->wide;
        for (uint32_t k = 0; k < n; k++) {
            s->rows[k] = r->pixels + (first + k) * r->row;
        }
        NAME(down)(s->rows, a->weights + (uint64_t)y * a->most, n, (uint64_t)r->w * r->c, wide);
        line = wide;
    }
    if (s->across.identical) {
        return line;
    }
    NAME(across)(&s->across, r->c, line, 0, 0, &s->line, 1);
    return s->line;
}

TARGET static void NAME(resize)(const mapix_resizing *r, const workshop *s) {
    const mapix_kernels *kernels = mapix_kernels_now();
    uint32_t next = 0;
    for (uint32_t y = 0; y < r->to_h; y++) {
        uint8_t *place = in_place(r, y), *to = place ? place : s->line;
        const uint8_t *line = to;
        if (s->across_first) {
            NAME(across_then_down)(r, s, y, &next, to);
        } else {
            line = NAME(down_then_across)(r, s, y, to);
        }
        if (!place) {
            emit(r, s, kernels, line, y);
        } else if (line != place) {
            memcpy(place, line, (uint64_t)r->to_w * r->c);
        }
    }
}
#undef TWO_PIXELS
#undef FOUR_TIMES
#undef WIDE
#undef SCALED
#undef WHOLE
