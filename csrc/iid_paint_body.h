/* iid_paint_body.h - the painting of tiles; see simd.h. */

/* A value to those of 64 labels where a word, the leftmost in its highest bit, has ones. */
TARGET static inline void NAME(paint_word)(int32_t *labels, uint64_t word, int32_t value) {
#if LEVEL == 2
    const __m512i all = _mm512_set1_epi32(value);
    const __m512i bits = _mm512_setr_epi32(1 << 15, 1 << 14, 1 << 13, 1 << 12, 1 << 11, 1 << 10,
                                           1 << 9, 1 << 8, 1 << 7, 1 << 6, 1 << 5, 1 << 4, 1 << 3,
                                           1 << 2, 1 << 1, 1);
    for (; word; word <<= 16, labels += 16) {
        const __m512i part = _mm512_set1_epi32((int)(word >> 48));
        _mm512_mask_storeu_epi32(labels, _mm512_test_epi32_mask(part, bits), all);
    }
#else
    while (word) { /* runs of ones, left to right */
        const unsigned first = (unsigned)__builtin_clzll(word);
        const uint64_t behind = ~(word << first);
        const unsigned run = behind ? (unsigned)__builtin_clzll(behind) : 64 - first;
        for (unsigned k = first; k < first + run; k++) {
            labels[k] = value;
        }
        word = first + run >= 64 ? 0 : word & (UINT64_MAX >> (first + run));
    }
#endif
}

/* One more where a word has ones, up to 65535. */
TARGET static inline void NAME(deepen_word)(uint16_t *depth, uint64_t word) {
#if LEVEL == 2
    const __m512i one = _mm512_set1_epi16(1);
    for (; word; word <<= 32, depth += 32) {
        uint32_t ones = __builtin_bswap32((uint32_t)(word >> 32)); /* the leftmost lowest */
        ones = (ones >> 1 & 0x55555555) | (ones & 0x55555555) << 1;
        ones = (ones >> 2 & 0x33333333) | (ones & 0x33333333) << 2;
        ones = (ones >> 4 & 0x0f0f0f0f) | (ones & 0x0f0f0f0f) << 4;
        const __m512i held = _mm512_maskz_loadu_epi16(ones, depth);
        _mm512_mask_storeu_epi16(depth, ones, _mm512_adds_epu16(held, one));
    }
#else
    for (; word; word &= word - 1) {
        uint16_t *d = depth + (63 - (unsigned)__builtin_ctzll(word));
        *d = *d < UINT16_MAX ? (uint16_t)(*d + 1) : *d;
    }
#endif
}

/* Recompute which columns of a strip are full. */
TARGET static inline void NAME(look_again)(paint_job *job, uint32_t strip) {
    const uint8_t *first = job->covered + strip * STRIP * TILE_ROW;
#if LEVEL > 0
    __m256i all = _mm256_set1_epi8(-1);
    for (uint32_t row = 0; row < STRIP; row++) {
        all = _mm256_and_si256(
            all, _mm256_loadu_si256((const __m256i *)(const void *)(first + row * TILE_ROW)));
    }
    job->full[strip] = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(all, _mm256_set1_epi8(-1)));
#else
    uint32_t full = 0;
    for (uint32_t k = 0; k < TILE / 8; k++) {
        uint8_t all = 0xFF;
        for (uint32_t row = 0; row < STRIP; row++) {
            all &= first[row * TILE_ROW + k];
        }
        full |= (uint32_t)(all == 0xFF) << k;
    }
    job->full[strip] = full;
#endif
}

/* Paint what of a bitmap's row has no colour yet, w pixels from bit `at`; how many that was. */
TARGET static inline uint64_t NAME(paint_row)(paint_job *job, const uint8_t *bits, uint64_t at,
                                              uint64_t to, int32_t *labels, uint32_t w,
                                              int32_t value) {
    uint64_t painted = 0;
    for (uint32_t left = w; left; at += 56, to += 56, labels += 56) {
        const uint32_t n = left < 56 ? left : 56;
        const uint64_t word =
            iid_load(bits, at) & ~iid_load(job->covered, to) & ~(UINT64_MAX >> n);
        left -= n;
        if (word) {
            iid_or_bits(job->covered, to, word);
            NAME(paint_word)(labels, word, value);
            painted += (uint64_t)__builtin_popcountll(word);
        }
    }
    return painted;
}

/* The same of all rows in a part of the tile, eight at a time. */
TARGET static void NAME(paint_bits)(paint_job *job, const iid_bitmap *b, const uint16_t part[4],
                                    int32_t value) {
    const uint16_t *tile = job->tile, *window = job->p->window;
    const uint64_t stride = (uint64_t)window[MAXC] - window[MINC];
    const uint32_t w = (uint32_t)part[MAXC] - part[MINC];
    const uint32_t left = (uint32_t)part[MINC] - tile[MINC], end = (uint32_t)part[MAXR] - tile[MINR];
    const uint32_t needed = columns_of(left, left + w);
    int32_t *corner = job->p->labels + (tile[MINR] - window[MINR]) * stride +
                      (uint64_t)(part[MINC] - window[MINC]);
    for (uint32_t row = (uint32_t)part[MINR] - tile[MINR]; row < end;) {
        const uint32_t strip = row / STRIP, behind = (strip + 1) * STRIP;
        const uint32_t stop = behind < end ? behind : end;
        if (!(needed & ~job->full[strip])) {
            row = stop;
            continue;
        }
        uint64_t painted = 0;
        for (; row < stop; row++) {
            const uint64_t at = (row + tile[MINR] - b->box[MINR]) * b->stride +
                                (uint64_t)(part[MINC] - b->box[MINC]);
            painted += NAME(paint_row)(job, b->bits, at, (uint64_t)row * (8 * TILE_ROW) + left,
                                       corner + row * stride, w, value);
        }
        if (painted) {
            NAME(look_again)(job, strip);
            job->left -= painted;
        }
    }
}

TARGET static void NAME(deepen_bits)(const paint_job *job, const iid_bitmap *b,
                                     const uint16_t part[4]) {
    const uint16_t *window = job->p->window;
    const uint64_t stride = (uint64_t)window[MAXC] - window[MINC];
    const uint32_t w = (uint32_t)part[MAXC] - part[MINC];
    for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
        uint64_t at = (row - b->box[MINR]) * b->stride + (uint64_t)(part[MINC] - b->box[MINC]);
        uint16_t *depth =
            job->p->depth + (row - window[MINR]) * stride + (part[MINC] - window[MINC]);
        for (uint32_t left = w; left; at += 56, depth += 56) {
            const uint32_t n = left < 56 ? left : 56;
            NAME(deepen_word)(depth, iid_load(b->bits, at) & ~(UINT64_MAX >> n));
            left -= n;
        }
    }
}

/* One segment into the tile.  Several regions there, where a pixel that two have would count twice,
 * are put together first; so is one at the very end of the file. */
TARGET static int NAME(paint_one)(paint_job *job, uint32_t key, int32_t value) {
    iid_segment s;
    uint16_t part[4];
    uint64_t at = 0, met = 0, nwords = 0;
    int more = 1, direct = 1, status = iid_segment_of(job->map, job->iid, key, &s, &job->where);
    iid_region r, only = {.nbytes = 0};
    while (!status && !(status = iid_next_region(&s, &at, &r, &more, &job->where)) && more) {
        if (iid_meet(r.box, job->tile, part)) {
            met++;
            only = r;
            direct &= roomy(job->map, &r);
        }
    }
    if (status || !met) {
        return status;
    }
    iid_bitmap b;
    if (met == 1 && direct) {
        b = (iid_bitmap){only.bits, (uint64_t)only.box[MAXC] - only.box[MINC],
                         {only.box[0], only.box[1], only.box[2], only.box[3]}};
    } else {
        (void)iid_meet(s.box, job->tile, part);
        b = iid_flatten(&s, part, job->flat, &nwords);
    }
    (void)iid_meet(b.box, job->tile, part);
    NAME(paint_bits)(job, &b, part, value);
    if (job->p->depth) {
        NAME(deepen_bits)(job, &b, part);
    }
    return MAPIX_OK;
}

TARGET static int NAME(paint_tile)(paint_job *job, const thing *chosen, uint64_t n) {
    const int deep = job->p->depth != NULL;
    begin_tile(job);
    for (uint64_t k = n; k-- > 0 && (job->left || deep);) {
        if (k >= ROWS_FAR) {
            iid_prefetch_row(job->map, job->iid, chosen[k - ROWS_FAR].key);
            const thing *soon = &chosen[k - SEGMENTS_FAR];
            if (deep || !is_covered(job, soon->box)) {
                iid_prefetch(job->map, job->iid, soon->key, MOST_FETCHED);
            }
        }
        if (!deep && is_covered(job, chosen[k].box)) {
            continue;
        }
        *(volatile uint64_t *)&job->where.record = chosen[k].key; /* for a fault */
        const int status = NAME(paint_one)(job, chosen[k].key, chosen[k].value);
        if (status) {
            return status;
        }
    }
    return MAPIX_OK;
}

TARGET static int NAME(paint_all)(void *arg) {
    paint_job *job = arg;
    const mapix_iid_painting *p = job->p;
    thing *band = (thing *)(void *)p->scratch, *chosen = band + p->n + 1;
    uint16_t *tile = job->tile;
    for (uint32_t row = job->begin; row < job->end; row += TILE) {
        const uint32_t below = row + TILE < job->end ? row + TILE : job->end;
        tile[MINR] = (uint16_t)row, tile[MAXR] = (uint16_t)below;
        tile[MINC] = p->window[MINC], tile[MAXC] = p->window[MAXC];
        const uint64_t nband = choose_band(p, tile, band);
        for (uint32_t col = p->window[MINC]; col < p->window[MAXC]; col += TILE) {
            tile[MINC] = (uint16_t)col;
            tile[MAXC] = p->window[MAXC] - col < TILE ? p->window[MAXC] : (uint16_t)(col + TILE);
            const uint64_t n = choose(band, nband, tile, chosen);
            const int status = NAME(paint_tile)(job, chosen, n);
            if (status) {
                return status;
            }
        }
    }
    return MAPIX_OK;
}
