/* iid_pack_body.h - runs of a mask; see simd.h. */

/* For up to 64 pixels from byte `at` on, a bit, the first lowest, for each that is not as the one
 * before it; before the first of a row is 0. */
TARGET static inline uint64_t NAME(edges)(const run_finder *f, uint64_t at, uint32_t n, int begins) {
    const uint8_t *p = f->mask + at;
    uint64_t found = 0;
#if LEVEL > 0
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
