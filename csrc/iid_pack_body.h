/* iid_pack_body.h - runs of a mask; see simd.h. */

/* For up to 64 pixels from byte `at` on, a bit, the first lowest, for each that is not as the one
 * before it; before the first of a row is 0. */
TARGET static inline uint64_t NAME(edges)(const run_finder *f, uint64_t at, uint32_t n, int begins) {
    const uint8_t *p = f->mask + at;
#if LEVEL == 2
    const __mmask64 all = UINT64_MAX >> (64 - n), known = begins ? all & ~UINT64_C(1) : all;
    const void *before = (const void *)((uintptr_t)p - 1); /* of the mask's first one nothing is read */
    const __m512i here = _mm512_maskz_loadu_epi8(all, p);
    return _mm512_mask_cmpneq_epi8_mask(all, here, _mm512_maskz_loadu_epi8(known, before));
#else
    uint64_t found = 0;
#if LEVEL == 1
    if (at > 0 && 64 <= f->nbytes - at) { /* what is not the row's own is taken off again */
        const __m256i *here = (const __m256i *)(const void *)p;
        const __m256i *before = (const __m256i *)(const void *)(p - 1);
        const uint32_t low = (uint32_t)_mm256_movemask_epi8(
            _mm256_cmpeq_epi8(_mm256_loadu_si256(here), _mm256_loadu_si256(before)));
        const uint32_t high = (uint32_t)_mm256_movemask_epi8(
            _mm256_cmpeq_epi8(_mm256_loadu_si256(here + 1), _mm256_loadu_si256(before + 1)));
        found = ~((uint64_t)high << 32 | low) & UINT64_MAX >> (64 - n);
        return begins ? (found & ~UINT64_C(1)) | (p[0] != 0) : found;
    }
#endif
    uint8_t before = begins ? 0 : p[-1];
    for (uint32_t k = 0; k < n; k++) {
        found |= (uint64_t)(p[k] != before) << k;
        before = p[k];
    }
    return found;
#endif
}

/* All runs of one value but 0. */
TARGET static void NAME(find_runs)(run_finder *f, uint32_t h, uint32_t w) {
    for (uint32_t row = 0; row < h; row++) {
        const uint64_t line = (uint64_t)row * w;
        const uint32_t first = f->n;
        uint32_t begin = 0, value = 0;
        f->above = f->before;
        for (uint32_t c = 0; c < w; c += 64) {
            const uint32_t n = w - c < 64 ? w - c : 64;
            for (uint64_t edges = NAME(edges)(f, line + c, n, !c); edges; edges &= edges - 1) {
                const uint32_t at = c + (uint32_t)__builtin_ctzll(edges);
                if (value) {
                    add_run(f, first, row, begin, at, value);
                }
                begin = at;
                value = f->mask[line + at];
            }
        }
        if (value) {
            add_run(f, first, row, begin, w, value);
        }
        f->before = first;
    }
}

/* A bit, the first lowest, for each of n pixels (1 to 64) that is not 0; *all is whether all of those
 * have the value.  `room` bytes may be read. */
TARGET static inline uint64_t NAME(ones_of)(const uint8_t *p, uint32_t n, uint64_t room,
                                            uint8_t value, int *all) {
#if LEVEL > 0
    const uint64_t own = UINT64_MAX >> (64 - n);
#endif
#if LEVEL == 2
    (void)room;
    const __m512i pixels = _mm512_maskz_loadu_epi8(own, p);
    const uint64_t ones = _mm512_test_epi8_mask(pixels, pixels);
    *all &= ones == _mm512_mask_cmpeq_epi8_mask(ones, pixels, _mm512_set1_epi8((char)value));
    return ones;
#else
    uint64_t ones = 0, equal = 0;
#if LEVEL == 1
    if (room >= 64) {
        const __m256i *pixels = (const __m256i *)(const void *)p;
        for (unsigned k = 0; k < 2; k++) {
            const __m256i half = _mm256_loadu_si256(pixels + k);
            const __m256i zeros = _mm256_cmpeq_epi8(half, _mm256_setzero_si256());
            const __m256i same = _mm256_cmpeq_epi8(half, _mm256_set1_epi8((char)value));
            ones |= (uint64_t)~(uint32_t)_mm256_movemask_epi8(zeros) << (32 * k);
            equal |= (uint64_t)(uint32_t)_mm256_movemask_epi8(same) << (32 * k);
        }
        *all &= (ones & own & ~equal) == 0;
        return ones & own;
    }
#else
    (void)room;
#endif
    for (uint32_t k = 0; k < n; k++) {
        ones |= (uint64_t)(p[k] != 0) << k;
        equal |= (uint64_t)(p[k] == value) << k;
    }
    *all &= (ones & ~equal) == 0;
    return ones;
#endif
}

/* What most masks are: up to 64 pixels wide, of one value, each row one run that touches the one above.
 * Rows go to `rows`; 0 when the mask is anything else. */
TARGET static int NAME(find_blob)(const uint8_t *mask, uint32_t h, uint32_t w, uint64_t *rows,
                                  blob *b) {
    const uint64_t nbytes = (uint64_t)h * w;
    uint64_t above = 0, any = 0;
    uint8_t value = 1;
    int all = 1;
    *b = (blob){.minr = h};
    for (uint32_t row = 0; row < h; row++) {
        const uint64_t at = (uint64_t)row * w;
        uint64_t ones = NAME(ones_of)(mask + at, w, nbytes - at, value, &all);
        rows[row] = ones;
        if (!ones) {
            above = 0;
            continue;
        }
        if (!any) { /* the first row that has some: its value is everybody's */
            b->minr = row;
            value = mask[at + (uint32_t)__builtin_ctzll(ones)];
            all = 1;
            (void)NAME(ones_of)(mask + at, w, nbytes - at, value, &all);
        } else if (!(ones & (above | above << 1 | above >> 1))) {
            return 0;
        }
        if (!all || (ones & (ones + (ones & (~ones + 1))))) {
            return 0;
        }
        above = ones;
        any |= ones;
        b->area += (uint32_t)__builtin_popcountll(ones);
        b->maxr = row + 1;
    }
    if (any) {
        b->minc = (uint32_t)__builtin_ctzll(any);
        b->maxc = 64 - (uint32_t)__builtin_clzll(any);
    }
    return any != 0;
}
