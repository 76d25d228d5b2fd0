/* tree_body.h - the search of a tree; see simd.h. */

/* A bit for each child that shares a pixel with the window. */
TARGET static inline unsigned NAME(tree_meeting)(const uint16_t *node, const uint16_t window[4]) {
#if LEVEL > 0
    const __m256i *rows = (const __m256i *)(const void *)node;
    /* unsigned a < b where b - a, which stays at 0, is not 0 */
    const __m256i r = _mm256_subs_epu16(_mm256_set1_epi16((short)window[2]), _mm256_loadu_si256(rows));
    const __m256i c =
        _mm256_subs_epu16(_mm256_set1_epi16((short)window[3]), _mm256_loadu_si256(rows + 1));
    const __m256i r2 =
        _mm256_subs_epu16(_mm256_loadu_si256(rows + 2), _mm256_set1_epi16((short)window[0]));
    const __m256i c2 =
        _mm256_subs_epu16(_mm256_loadu_si256(rows + 3), _mm256_set1_epi16((short)window[1]));
    const __m256i least = _mm256_min_epu16(_mm256_min_epu16(r, c), _mm256_min_epu16(r2, c2));
    const __m256i none = _mm256_cmpeq_epi16(least, _mm256_setzero_si256());
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(none), _mm256_extracti128_si256(none, 1));
    return (unsigned)_mm_movemask_epi8(bytes) ^ 0xFFFFu;
#else
    uint8_t meets[FAN];
    for (unsigned k = 0; k < FAN; k++) {
        meets[k] = (uint8_t)((node[k] < window[2]) & (node[FAN + k] < window[3]) &
                             (node[2 * FAN + k] > window[0]) & (node[3 * FAN + k] > window[1]));
    }
    unsigned bits = 0;
    for (unsigned k = 0; k < FAN; k++) {
        bits |= (unsigned)meets[k] << k;
    }
    return bits;
#endif
}

/* Find leaves from `first_leaf` on, ascending, that meet a window, at most `capacity`.  With `count`, all of them
 * are counted; else the search ends once `found` is full. */
TARGET static uint64_t NAME(tree_search)(const uint16_t *nodes, const tree_shape *s,
                                         const uint16_t window[4], uint64_t first_leaf, int count,
                                         uint32_t *found, uint64_t capacity) {
    tree_place stack[TREE_STACK];
    unsigned depth = 0;
    uint64_t nfound = 0;
    if (!s->n || window[0] >= window[2] || window[1] >= window[3]) {
        return 0;
    }
    stack[depth++] = (tree_place){0, s->nlevels - 1};
    while (depth) {
        const tree_place here = stack[--depth];
        const uint64_t first = here.node * FAN;
        unsigned bits =
            NAME(tree_meeting)(nodes + (s->start[here.level] + here.node) * NODE, window);
        if (here.level == 0) {
            if (first < first_leaf) {
                bits &= first_leaf - first < FAN ? ~0u << (first_leaf - first) : 0u;
            }
            if (s->n - first < FAN) {
                bits &= (1u << (s->n - first)) - 1;
            }
            for (; bits; bits &= bits - 1) {
                if (nfound < capacity) {
                    found[nfound] = (uint32_t)(first + (unsigned)__builtin_ctz(bits));
                } else if (!count) {
                    return nfound;
                }
                nfound++;
            }
            continue;
        }
        const uint64_t leaves = s->leaves[here.level - 1]; /* of one child */
        const uint64_t below = s->start[here.level] - s->start[here.level - 1];
        while (bits) { /* the last child first onto the stack, so that the first comes off first */
            const unsigned k = 31 - (unsigned)__builtin_clz(bits);
            bits &= ~(1u << k);
            const uint64_t child = first + k;
            if (child < below && (child + 1) * leaves > first_leaf) {
                const uint16_t *node = nodes + (s->start[here.level - 1] + child) * NODE;
                __builtin_prefetch(node, 0, 3);
                __builtin_prefetch(node + NODE / 2, 0, 3);
                stack[depth++] = (tree_place){child, here.level - 1};
            }
        }
    }
    return nfound;
}
