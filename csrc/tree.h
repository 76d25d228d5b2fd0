/* tree.h - a packed tree over boxes: sixteen children a node, along a Hilbert curve. */
#ifndef MAPIX_TREE_H
#define MAPIX_TREE_H

#include "simd.h"

#include <string.h>

enum { FAN = 16, NODE = 4 * FAN, MOST_LEVELS = 9, TREE_STACK = MOST_LEVELS * FAN };

typedef struct {
    uint64_t n;
    unsigned nlevels;
    uint64_t start[MOST_LEVELS + 1];  /* of each level's nodes */
    uint64_t leaves[MOST_LEVELS + 1]; /* under one node of each level */
} tree_shape;

static inline tree_shape tree_shape_of(uint64_t n) {
    tree_shape s = {.n = n};
    uint64_t count = n;
    do {
        count = (count + FAN - 1) / FAN;
        s.start[s.nlevels + 1] = s.start[s.nlevels] + count;
        s.leaves[s.nlevels] = s.nlevels ? s.leaves[s.nlevels - 1] * FAN : FAN;
        s.nlevels++;
    } while (count > 1 && s.nlevels < MOST_LEVELS);
    return s;
}

typedef struct {
    uint64_t node; /* of its level */
    unsigned level;
} tree_place;

/* The box of a leaf. */
static inline void tree_box(const uint16_t *nodes, uint64_t leaf, uint16_t box[4]) {
    const uint16_t *child = nodes + leaf / FAN * NODE + leaf % FAN;
    for (unsigned side = 0; side < 4; side++) {
        box[side] = child[side * FAN];
    }
}

/* Sort n numbers below `end`; `capacity` has n words. */
static inline void tree_sort(uint32_t *a, uint32_t *capacity, uint64_t n, uint64_t end) {
    if (n <= 24) {
        for (uint64_t i = 1; i < n; i++) {
            const uint32_t one = a[i];
            uint64_t k = i;
            for (; k && a[k - 1] > one; k--) {
                a[k] = a[k - 1];
            }
            a[k] = one;
        }
        return;
    }
    uint32_t *from = a, *to = capacity;
    for (unsigned shift = 0; shift < 32 && end >> shift; shift += 8) {
        uint64_t counts[257] = {0};
        for (uint64_t i = 0; i < n; i++) {
            counts[(from[i] >> shift & 255) + 1]++;
        }
        for (unsigned k = 0; k < 256; k++) {
            counts[k + 1] += counts[k];
        }
        for (uint64_t i = 0; i < n; i++) {
            to[counts[from[i] >> shift & 255]++] = from[i];
        }
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != a) {
        memcpy(a, from, n * sizeof *a);
    }
}

#endif
