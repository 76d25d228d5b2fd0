/* tree.c - a packed tree over boxes: sixteen children a node, along a Hilbert curve. */
#include "mapix.h"

#include <string.h>

enum { FAN = 16, NODE = 4 * FAN, MOST_LEVELS = 9, STACK = MOST_LEVELS * FAN };
enum { MINR, MINC, MAXR, MAXC };

typedef struct {
    uint64_t n;
    unsigned nlevels;
    uint64_t start[MOST_LEVELS + 1]; /* of each level's nodes */
} shape;

static shape shape_of(uint64_t n) {
    shape s = {.n = n};
    uint64_t count = n;
    do {
        count = (count + FAN - 1) / FAN;
        s.start[s.nlevels + 1] = s.start[s.nlevels] + count;
        s.nlevels++;
    } while (count > 1 && s.nlevels < MOST_LEVELS);
    return s;
}

uint64_t mapix_tree_nodes(uint64_t n) {
    const shape s = shape_of(n);
    return n ? s.start[s.nlevels] : 0;
}

/* Where a point lies along a Hilbert curve over 65536 x 65536. */
static uint32_t hilbert(uint32_t x, uint32_t y) {
    uint32_t d = 0;
    for (uint32_t s = 1u << 15; s; s >>= 1) {
        const uint32_t rx = (x & s) > 0, ry = (y & s) > 0;
        d += s * s * ((3 * rx) ^ ry);
        if (!ry) {
            if (rx) {
                x = 65535 - x;
                y = 65535 - y;
            }
            const uint32_t swap = x;
            x = y;
            y = swap;
        }
    }
    return d;
}

/* Sort n words by their upper half, a byte a pass; the result ends in `a`. */
static void sort_words(uint64_t *a, uint64_t *b, uint64_t n) {
    for (unsigned shift = 32; shift < 64; shift += 8) {
        uint64_t counts[257] = {0};
        for (uint64_t i = 0; i < n; i++) {
            counts[(a[i] >> shift & 255) + 1]++;
        }
        for (unsigned k = 0; k < 256; k++) {
            counts[k + 1] += counts[k];
        }
        for (uint64_t i = 0; i < n; i++) {
            b[counts[a[i] >> shift & 255]++] = a[i];
        }
        uint64_t *swap = a;
        a = b;
        b = swap;
    } /* four passes: back where it was */
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

int mapix_tree_build(const uint16_t *boxes, uint64_t n, uint16_t *nodes, uint32_t *order,
                     uint64_t *scratch) {
    if (n > UINT32_MAX) {
        return MAPIX_E_ARGUMENT;
    }
    for (uint64_t i = 0; i < n; i++) {
        const uint16_t *b = boxes + 4 * i;
        const uint32_t d = hilbert(((uint32_t)b[MINC] + b[MAXC]) / 2,
                                   ((uint32_t)b[MINR] + b[MAXR]) / 2);
        scratch[i] = (uint64_t)d << 32 | i;
    }
    sort_words(scratch, scratch + n, n);
    const shape s = shape_of(n);
    for (uint64_t i = 0; i < (s.start[1] * FAN) && n; i++) {
        const uint16_t *b = NOTHING;
        if (i < n) {
            order[i] = (uint32_t)scratch[i];
            b = boxes + 4 * (uint64_t)order[i];
            b = b[MINR] < b[MAXR] && b[MINC] < b[MAXC] ? b : NOTHING; /* no pixel, never met */
        }
        set_child(nodes + i / FAN * NODE, i % FAN, b);
    }
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

/* A bit for each child that shares a pixel with the window. */
static unsigned meeting(const uint16_t *node, const uint16_t window[4]) {
    uint8_t meets[FAN];
    for (unsigned k = 0; k < FAN; k++) {
        meets[k] = (uint8_t)((node[k] < window[MAXR]) & (node[FAN + k] < window[MAXC]) &
                             (node[2 * FAN + k] > window[MINR]) &
                             (node[3 * FAN + k] > window[MINC]));
    }
    unsigned bits = 0;
    for (unsigned k = 0; k < FAN; k++) {
        bits |= (unsigned)meets[k] << k;
    }
    return bits;
}

typedef struct {
    uint64_t node; /* of its level */
    unsigned level;
} place;

/* Positions (in tree order, after `behind`) of the leaves that meet a window, to found as they come;
 * all of them are counted. */
static uint64_t search(const uint16_t *nodes, const shape *s, const uint16_t window[4],
                       uint64_t behind, uint32_t *found, uint64_t room) {
    place stack[STACK];
    unsigned depth = 0;
    uint64_t nfound = 0;
    if (!s->n || window[MINR] >= window[MAXR] || window[MINC] >= window[MAXC]) {
        return 0;
    }
    stack[depth++] = (place){0, s->nlevels - 1};
    while (depth) {
        const place here = stack[--depth];
        unsigned bits = meeting(nodes + (s->start[here.level] + here.node) * NODE, window);
        if (here.level == 0) {
            for (; bits; bits &= bits - 1) {
                const uint64_t position = here.node * FAN + (unsigned)__builtin_ctz(bits);
                if (position >= behind && position < s->n) {
                    if (nfound < room) {
                        found[nfound] = (uint32_t)position;
                    }
                    nfound++;
                }
            }
            continue;
        }
        uint64_t leaves = FAN; /* of one child */
        for (unsigned level = 1; level < here.level; level++) {
            leaves *= FAN;
        }
        const uint64_t count = s->start[here.level] - s->start[here.level - 1];
        while (bits) { /* the last child first onto the stack, so that the first comes off first */
            const unsigned k = 31 - (unsigned)__builtin_clz(bits);
            bits &= ~(1u << k);
            const uint64_t child = here.node * FAN + k;
            if (child < count && (child + 1) * leaves > behind) {
                stack[depth++] = (place){child, here.level - 1};
            }
        }
    }
    return nfound;
}

int mapix_tree_search(const uint16_t *nodes, const uint32_t *order, uint64_t n,
                      const uint16_t *window, uint32_t *found, uint64_t room, uint64_t *nfound) {
    const shape s = shape_of(n);
    *nfound = search(nodes, &s, window, 0, found, room);
    const uint64_t taken = *nfound < room ? *nfound : room;
    for (uint64_t i = 0; i < taken; i++) {
        found[i] = order[found[i]];
    }
    return MAPIX_OK;
}

int mapix_tree_search_many(const uint16_t *nodes, const uint32_t *order, uint64_t n,
                           const uint16_t *windows, uint64_t nwindows, uint64_t *window,
                           uint32_t *found, uint64_t room, uint64_t *nfound, uint32_t *counts) {
    const shape s = shape_of(n);
    *nfound = 0;
    for (; *window < nwindows; ++*window) {
        const uint64_t left = room - *nfound;
        const uint64_t more =
            search(nodes, &s, windows + 4 * *window, 0, found + *nfound, left);
        if (more > left) {
            return MAPIX_OK; /* once more, with more room */
        }
        for (uint64_t i = *nfound; i < *nfound + more; i++) {
            found[i] = order[found[i]];
        }
        counts[*window] = (uint32_t)more;
        *nfound += more;
    }
    return MAPIX_OK;
}

int mapix_tree_pairs(const uint16_t *nodes, const uint32_t *order, uint64_t n, uint64_t *leaf,
                     uint32_t *a, uint32_t *b, uint64_t room, uint64_t *nfound) {
    const shape s = shape_of(n);
    *nfound = 0;
    for (; *leaf < n; ++*leaf) {
        const uint16_t *node = nodes + *leaf / FAN * NODE;
        uint16_t box[4];
        for (unsigned side = 0; side < 4; side++) {
            box[side] = node[side * FAN + *leaf % FAN];
        }
        const uint64_t left = room - *nfound;
        const uint64_t more = search(nodes, &s, box, *leaf + 1, b + *nfound, left);
        if (more > left) {
            return MAPIX_OK; /* once more, with more room */
        }
        for (uint64_t i = *nfound; i < *nfound + more; i++) {
            const uint32_t one = order[*leaf], other = order[b[i]];
            a[i] = one < other ? one : other;
            b[i] = one < other ? other : one;
        }
        *nfound += more;
    }
    return MAPIX_OK;
}
