/* iid_masks_body.h - bits into bytes, and counted; see simd.h. */

/* Write n pixels as bytes, from the first bit on, in steps of 64; return how many were written. */
TARGET static inline uint64_t NAME(spread_steps)(uint8_t *to, const uint8_t *bits, uint64_t n) {
    uint64_t at = 0;
#if LEVEL == 2
    /* eight bytes to all lanes, each byte eight times, and of each copy another bit */
    const __m512i copies = _mm512_set_epi64(
        0x0707070707070707, 0x0606060606060606, 0x0505050505050505, 0x0404040404040404,
        0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m512i each = _mm512_set1_epi64(0x0102040810204080), one = _mm512_set1_epi8(1);
    for (; at + 64 <= n; at += 64) {
        uint64_t word; /* n is within the bits, so that these 8 bytes are, too */
        memcpy(&word, bits + at / 8, 8);
        const __m512i bytes = _mm512_shuffle_epi8(_mm512_set1_epi64((long long)word), copies);
        _mm512_storeu_si512(to + at, _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(bytes, each), one));
    }
#else
    (void)to, (void)bits, (void)n;
#endif
    return at;
}

/* Write a complete region into a mask of exactly its box: the bits are one line. */
TARGET static inline void NAME(spread_all)(uint8_t *to, const iid_region *r) {
    const uint64_t n = (uint64_t)(r->box[MAXR] - r->box[MINR]) * (r->box[MAXC] - r->box[MINC]);
    for (uint64_t at = NAME(spread_steps)(to, r->bits, n); at < n; at += 64) {
        const uint64_t left = n - at;
        spread_word(to + at, iid_word(r->bits, r->nbytes, at), left < 64 ? (uint32_t)left : 64);
    }
}

/* Ones as bytes where the first n bits of a word have them; nothing else is written. */
TARGET static inline void NAME(set_word)(uint8_t *to, uint64_t word, uint32_t n) {
#if LEVEL == 2
    const __m512i copies = _mm512_set_epi64(0, 0x0101010101010101, 0x0202020202020202,
                                            0x0303030303030303, 0x0404040404040404,
                                            0x0505050505050505, 0x0606060606060606,
                                            0x0707070707070707);
    const __m512i each = _mm512_set1_epi64(0x0102040810204080);
    const __m512i bytes = _mm512_shuffle_epi8(_mm512_set1_epi64((long long)word), copies);
    (void)n;
    _mm512_mask_storeu_epi8(to, _mm512_test_epi8_mask(bytes, each), _mm512_set1_epi8(1));
#else
    uint8_t pixels[64];
    spread_word(pixels, word, n);
    for (uint32_t k = 0; k < n; k++) {
        to[k] |= pixels[k];
    }
#endif
}

/* A region into a mask of a window, which may have pixels of others. */
TARGET static void NAME(or_region)(uint8_t *to, const iid_region *r, const uint16_t window[4]) {
    const uint64_t w = window[MAXC] - window[MINC];
    uint16_t part[4];
    if (!iid_meet(r->box, window, part)) {
        return;
    }
    for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
        uint8_t *line = to + (row - window[MINR]) * w;
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            const uint32_t left = (uint32_t)part[MAXC] - col, n = left < 64 ? left : 64;
            const uint64_t word = iid_row_word(r, row, col, part[MAXC]);
            NAME(set_word)(line + (col - window[MINC]), word, n);
        }
    }
}

TARGET static int NAME(mask_of)(pixel_job *job, uint64_t i) {
    const uint16_t *window = job->windows + 4 * i;
    const uint64_t h = window[MAXR] - window[MINR], w = window[MAXC] - window[MINC];
    const uint64_t begin = job->offsets[i], end = job->offsets[i + 1];
    iid_segment s;
    iid_region r, only = {.nbytes = 0};
    uint64_t at = 0, nregions = 0;
    int more = 1, status = iid_segment_of(job->map, job->iid, job->keys[i], &s, &job->where);
    while (!status && !(status = iid_next_region(&s, &at, &r, &more, &job->where)) && more) {
        nregions++;
        only = r;
    }
    if (status) {
        return status;
    }
    if (begin > end || end > job->out_nbytes || end - begin != h * w) {
        return MAPIX_E_ARGUMENT;
    }
    uint8_t *to = (uint8_t *)job->out + begin;
    if (nregions == 1 && memcmp(only.box, window, 8) == 0) {
        NAME(spread_all)(to, &only);
        return MAPIX_OK;
    }
    memset(to, 0, end - begin);
    for (at = 0; !iid_next_region(&s, &at, &r, &more, &job->where) && more;) {
        NAME(or_region)(to, &r, window);
    }
    return MAPIX_OK;
}

/* Whether one of the regions has a pixel in the window. */
TARGET static uint32_t NAME(has_any)(const checked *c, const uint16_t window[4]) {
    near_place place = {0, 0};
    iid_region r;
    uint16_t part[4];
    while (next_near(c, window, &place, &r, part)) {
        for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
            for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
                if (iid_row_word(&r, row, col, part[MAXC])) {
                    return 1;
                }
            }
        }
    }
    return 0;
}

TARGET static int NAME(count_of)(pixel_job *job, uint64_t i) {
    checked c;
    const int status =
        check_segment(job->map, job->iid, job->keys[i], job->windows + 4 * i, &c, &job->where);
    uint64_t found = 0;
    job->counts[i] = 0;
    if (status || !c.nnear) {
        return status;
    }
    if (job->option) {
        job->counts[i] = NAME(has_any)(&c, c.bounds);
        return MAPIX_OK;
    }
    if (are_apart(&c)) {
        near_place place = {0, 0};
        iid_region r;
        uint16_t part[4];
        while (next_near(&c, c.bounds, &place, &r, part)) {
            found += count_part(&r, part);
        }
    } else {
        uint16_t band[4];
        uint64_t nwords;
        for (uint32_t row = c.bounds[MINR]; next_band(c.bounds, job->canvas, &row, band, &nwords);) {
            found += use_canvas(&c, band, job->canvas->words, NULL, nwords, CANVAS_ADD);
            (void)use_canvas(&c, band, job->canvas->words, NULL, nwords, CANVAS_CLEAR);
        }
    }
    job->counts[i] = (uint32_t)found;
    return MAPIX_OK;
}
