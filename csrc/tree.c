/* tree.c - see tree.h. */
#include "tree.h"

#define BODY "tree_body.h"
#include "each_level.h"

enum { MINR, MINC, MAXR, MAXC };

typedef uint64_t (*search_fn)(const uint16_t *nodes, const tree_shape *s, const uint16_t window[4],
                              uint64_t behind, int count, uint32_t *found, uint64_t capacity);

uint64_t mapix_tree_nodes(uint64_t n) {
    const tree_shape s = tree_shape_of(n);
    return n ? s.start[s.nlevels] : 0;
}

/* A Hilbert curve over 65536 x 65536, four bits of x and y a step.  How the curve lies in a square is
 * two bits: whether x and y have changed places, and whether both run backwards.  For each of the four
 * ways and each 16 x 16 squares: how far along the curve, and how it lies there. */
typedef struct {
    uint8_t along[4][256], way[4][256];
} curve;

static void make_curve(curve *c) {
    for (unsigned way = 0; way < 4; way++) {
        for (unsigned xy = 0; xy < 256; xy++) {
            unsigned swapped = way & 1, backwards = way >> 1, along = 0;
            for (unsigned bit = 4; bit-- > 0;) {
                const unsigned first = xy >> (4 + bit) & 1, second = xy >> bit & 1;
                const unsigned x = (swapped ? second : first) ^ backwards;
                const unsigned y = (swapped ? first : second) ^ backwards;
                along = along << 2 | ((3 * x) ^ y);
                backwards ^= x & (y ^ 1);
                swapped ^= y ^ 1;
            }
            c->along[way][xy] = (uint8_t)along;
            c->way[way][xy] = (uint8_t)(backwards << 1 | swapped);
        }
    }
}

/* Where a point lies along it. */
static inline uint32_t hilbert(const curve *c, uint32_t x, uint32_t y) {
    uint32_t d = 0, way = 0;
    for (unsigned step = 4; step-- > 0;) {
        const uint32_t xy = (x >> 4 * step & 15) << 4 | (y >> 4 * step & 15);
        d = d << 8 | c->along[way][xy];
        way = c->way[way][xy];
    }
    return d;
}

enum { DIGIT = 11, NDIGITS = 3, NBUCKETS = 1 << DIGIT };

/* Sort n words by their upper half, eleven bits a pass, all counted at once; a pass whose digits are
 * all the same is left out.  Returns where the result is. */
static uint64_t *sort_words(uint64_t *a, uint64_t *b, uint64_t n) {
    uint32_t counts[NDIGITS][NBUCKETS];
    memset(counts, 0, sizeof counts);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t d = a[i] >> 32;
        counts[0][d & (NBUCKETS - 1)]++;
        counts[1][d >> DIGIT & (NBUCKETS - 1)]++;
        counts[2][d >> 2 * DIGIT]++;
    }
    for (unsigned digit = 0; digit < NDIGITS; digit++) {
        const unsigned shift = 32 + digit * DIGIT;
        uint32_t sum = 0, *count = counts[digit];
        if (n && count[a[0] >> shift & (NBUCKETS - 1)] == n) {
            continue;
        }
        for (unsigned k = 0; k < NBUCKETS; k++) {
            const uint32_t here = count[k];
            count[k] = sum;
            sum += here;
        }
        for (uint64_t i = 0; i < n; i++) {
            b[count[a[i] >> shift & (NBUCKETS - 1)]++] = a[i];
        }
        uint64_t *swap = a;
        a = b;
        b = swap;
    }
    return a;
}

static void set_child(uint16_t *node, unsigned k, const uint16_t box[4]) {
    for (unsigned side = 0; side < 4; side++) {
        node[side * FAN + k] = box[side];
    }
}

static const uint16_t NOTHING[4] = {UINT16_MAX, UINT16_MAX, 0, 0};

/* The box around the children of a node. */
static void around(const uint16_t *node, uint16_t box[4]) {
    memcpy(box, NOTHING, 8);
    for (unsigned k = 0; k < FAN; k++) {
        box[MINR] = node[k] < box[MINR] ? node[k] : box[MINR];
        box[MINC] = node[FAN + k] < box[MINC] ? node[FAN + k] : box[MINC];
        box[MAXR] = node[2 * FAN + k] > box[MAXR] ? node[2 * FAN + k] : box[MAXR];
        box[MAXC] = node[3 * FAN + k] > box[MAXC] ? node[3 * FAN + k] : box[MAXC];
    }
}

enum { BOXES_AHEAD = 16 };

static void fill_leaves(const uint16_t *boxes, uint64_t n, uint16_t *nodes, const uint32_t *order) {
    for (uint64_t first = 0; first < n; first += FAN) {
        uint16_t *node = nodes + first / FAN * NODE;
        for (unsigned k = 0; k < FAN; k++) {
            const uint64_t i = first + k;
            const uint16_t *b = i < n ? boxes + 4 * (uint64_t)order[i] : NOTHING;
            if (i + BOXES_AHEAD < n) {
                __builtin_prefetch(boxes + 4 * (uint64_t)order[i + BOXES_AHEAD], 0, 3);
            }
            b = b[MINR] < b[MAXR] && b[MINC] < b[MAXC] ? b : NOTHING; /* no pixel, never met */
            set_child(node, k, b);
        }
    }
}

int mapix_tree_build(const uint16_t *boxes, uint64_t n, uint16_t *nodes, uint32_t *order,
                     uint64_t *scratch) {
    if (n > UINT32_MAX) {
        return MAPIX_E_ARGUMENT;
    }
    curve c;
    make_curve(&c);
    for (uint64_t i = 0; i < n; i++) {
        const uint16_t *b = boxes + 4 * i;
        const uint32_t d = hilbert(&c, ((uint32_t)b[MINC] + b[MAXC]) / 2,
                                   ((uint32_t)b[MINR] + b[MAXR]) / 2);
        scratch[i] = (uint64_t)d << 32 | i;
    }
    const uint64_t *sorted = sort_words(scratch, scratch + n, n);
    for (uint64_t i = 0; i < n; i++) {
        order[i] = (uint32_t)sorted[i];
    }
    fill_leaves(boxes, n, nodes, order);
    const tree_shape s = tree_shape_of(n);
    for (unsigned level = 1; level < s.nlevels; level++) {
        const uint64_t below = s.start[level] - s.start[level - 1];
        const uint64_t count = s.start[level + 1] - s.start[level];
        for (uint64_t i = 0; i < count * FAN; i++) {
            uint16_t box[4];
            memcpy(box, NOTHING, 8);
            if (i < below) {
                around(nodes + (s.start[level - 1] + i) * NODE, box);
            }
            set_child(nodes + (s.start[level] + i / FAN) * NODE, i % FAN, box);
        }
    }
    return MAPIX_OK;
}

int mapix_tree_search(const uint16_t *nodes, const uint32_t *order, uint64_t n,
                      const uint16_t *window, uint32_t *found, uint64_t capacity, uint64_t *nfound) {
    const tree_shape s = tree_shape_of(n);
    const search_fn search = MAPIX_AT_LEVEL(tree_search);
    *nfound = search(nodes, &s, window, 0, 1, found, capacity);
    const uint64_t taken = *nfound < capacity ? *nfound : capacity;
    for (uint64_t i = 0; i < taken; i++) {
        found[i] = order[found[i]];
    }
    return MAPIX_OK;
}

int mapix_tree_search_many(const uint16_t *nodes, const uint32_t *order, uint64_t n,
                           const uint16_t *windows, uint64_t nwindows, uint64_t *window,
                           uint32_t *found, uint64_t capacity, uint64_t *nfound, uint32_t *counts) {
    const tree_shape s = tree_shape_of(n);
    const search_fn search = MAPIX_AT_LEVEL(tree_search);
    *nfound = 0;
    for (; *window < nwindows; ++*window) {
        const uint64_t left = capacity - *nfound;
        uint32_t *here = found + *nfound;
        const uint64_t more = search(nodes, &s, windows + 4 * *window, 0, 1, here, left);
        if (2 * more > left) { /* the other half is to sort in */
            return MAPIX_OK;     /* the caller repeats it with a larger output */
        }
        for (uint64_t i = 0; i < more; i++) {
            here[i] = order[here[i]];
        }
        tree_sort(here, here + more, more, n);
        counts[*window] = (uint32_t)more;
        *nfound += more;
    }
    return MAPIX_OK;
}
