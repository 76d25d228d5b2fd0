/* iid_pairs_body.h - the order of the pairs of one segment; see simd.h. */

enum { NAME(LANES) = 16 };

/* Sort the partners of each segment.  Those of segment i end at ends[i], and begin where those of the segment before
 * it end.  If they are few, each one's place is the number of those that are less. */
TARGET static void NAME(sort_partners)(const uint32_t *keys, uint64_t nkeys, const uint64_t *ends,
                                       uint64_t *scratch, uint32_t *columns, uint64_t capacity) {
    uint32_t partners[FEW_PAIRS + NAME(LANES)], pixels[FEW_PAIRS];
    for (uint64_t i = 0, begin = 0; i < nkeys; begin = ends[i++]) {
        const uint64_t n = ends[i] - begin;
        uint32_t *first = columns + begin, *second = first + capacity, *third = second + capacity;
        for (uint64_t k = 0; k < n; k++) {
            first[k] = keys[i];
        }
        if (n <= FEWEST_PAIRS) {
            for (uint64_t k = 1; k < n; k++) {
                const uint32_t partner = second[k], shared = third[k];
                uint64_t to = k;
                for (; to && second[to - 1] > partner; to--) {
                    second[to] = second[to - 1], third[to] = third[to - 1];
                }
                second[to] = partner, third[to] = shared;
            }
            for (uint64_t k = 0; k < n; k++) {
                second[k] = keys[second[k]];
            }
            continue;
        }
        if (n > FEW_PAIRS) {
            sort_many(second, third, n, nkeys, scratch);
            for (uint64_t k = 0; k < n; k++) {
                second[k] = keys[second[k]];
            }
            continue;
        }
        memcpy(partners, second, n * sizeof *second);
        memcpy(pixels, third, n * sizeof *third);
        memset(partners + n, 0xFF, NAME(LANES) * sizeof *partners);
        const unsigned filled = ((unsigned)n + NAME(LANES) - 1) / NAME(LANES) * NAME(LANES);
        for (uint64_t k = 0; k < n; k++) {
            uint32_t less = 0;
            for (unsigned other = 0; other < filled; other++) {
                less += partners[other] < partners[k];
            }
            second[less] = keys[partners[k]];
            third[less] = pixels[k];
        }
    }
}
