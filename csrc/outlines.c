/* outlines.c - outlines and holes of a mask, along the sides of its pixels. */
#include "mapix.h"
#include "simd.h"

#include <string.h>

enum { PIXEL = 1, SEEN = 2, TOUCHED = 4 }; /* SEEN: the upper side was followed; TOUCHED: of the upper left corner */

typedef struct {
    int32_t x, y;
} point;

typedef struct {
    uint8_t *field; /* the mask with a border of zeros */
    uint64_t stride;
    int32_t minr, minc;
    point *path, *points;
    uint32_t *ends;
    uint64_t capacity, npath, npoints, nrings, nsides, most_sides, nsplit;
} tracer;

static inline uint8_t *slot(const tracer *t, point at) {
    return t->field + (uint64_t)(at.y + 1) * t->stride + (uint64_t)(at.x + 1);
}

/* Move path[from, npath) to the results as one ring.  It begins with the first side that leads to the right. */
static int finish_ring(tracer *t, uint64_t from) {
    const point *ring = t->path + from;
    const uint64_t n = t->npath - from;
    uint64_t first = 0;
    int found = 0;
    if (t->npoints + n > t->capacity) { /* so there are fewer rings, each of four points or more */
        return MAPIX_E_SHAPE;
    }
    for (uint64_t i = 0; i < n; i++) {
        const point p = ring[i], next = ring[i + 1 < n ? i + 1 : 0];
        const int earlier = p.y < ring[first].y || (p.y == ring[first].y && p.x < ring[first].x);
        if (next.x > p.x && (!found || earlier)) {
            first = i;
            found = 1;
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        const point p = ring[first + i < n ? first + i : first + i - n];
        *slot(t, p) &= (uint8_t)~TOUCHED;
        t->points[t->npoints++] = (point){p.x + t->minc, p.y + t->minr};
    }
    t->ends[t->nrings++] = (uint32_t)t->npoints;
    t->npath = from;
    return MAPIX_OK;
}

/* Append a corner.  At one where two pixels touch, the path may have been before: what lies between is a ring. */
static int add_corner(tracer *t, point at, int touches) {
    if (touches) {
        uint8_t *place = slot(t, at);
        if (*place & TOUCHED) {
            uint64_t from = t->npath - 1;
            while (t->path[from].x != at.x || t->path[from].y != at.y) {
                from--;
            }
            const int status = finish_ring(t, from);
            if (status) {
                return status;
            }
            t->nsplit++;
        } else {
            *place |= TOUCHED;
        }
    }
    if (t->npath == t->capacity) {
        return MAPIX_E_SHAPE;
    }
    t->path[t->npath++] = at;
    return MAPIX_OK;
}

/* Follow the sides from the upper side of a pixel on, with pixels to the right, until it is reached again. */
static int trace(tracer *t, const point begin) {
    static const int8_t dx[4] = {1, 0, -1, 0}, dy[4] = {0, 1, 0, -1};
    const int64_t s = (int64_t)t->stride;
    /* from the slot of a corner, the pixels ahead to the right and to the left, for each direction */
    const int64_t right[4] = {0, -1, -s - 1, -s}, left[4] = {-s, 0, -1, -s - 1};
    point at = begin;
    unsigned way = 0;
    const uint8_t *here = slot(t, begin);
    int status = add_corner(t, begin, (here[-s - 1] & PIXEL) && !(here[-1] & PIXEL));
    while (!status) {
        uint8_t *place = slot(t, at);
        if (way == 0) {
            *place |= SEEN;
        }
        if (++t->nsides > t->most_sides) {
            return MAPIX_E_ARGUMENT;
        }
        at = (point){at.x + dx[way], at.y + dy[way]};
        place = slot(t, at);
        const int ahead_right = place[right[way]] & PIXEL, ahead_left = place[left[way]] & PIXEL;
        if (ahead_right && !ahead_left) {
            continue;
        }
        way = (way + (ahead_right ? 3 : 1)) & 3;
        if (way == 0 && at.x == begin.x && at.y == begin.y) {
            return finish_ring(t, 0);
        }
        status = add_corner(t, at, !ahead_right && ahead_left);
    }
    return status;
}

uint64_t mapix_outlines_scratch(uint32_t h, uint32_t w, uint64_t capacity) {
    const uint64_t stride = ((uint64_t)w + 2 + 7) / 8 * 8;
    return capacity + ((uint64_t)h + 2) * stride / 8 + 1;
}

int mapix_outlines(const uint8_t *mask, uint32_t h, uint32_t w, uint32_t minr, uint32_t minc,
                   uint64_t most_sides, uint64_t *scratch, int32_t *points, uint32_t *ends,
                   uint64_t capacity, mapix_outline_counts *counts) {
    if (h > 65535 || w > 65535 || minr > 65535 || minc > 65535) {
        return MAPIX_E_ARGUMENT;
    }
    const uint64_t stride = ((uint64_t)w + 2 + 7) / 8 * 8;
    tracer t = {.field = (uint8_t *)(scratch + capacity), .stride = stride, .minr = (int32_t)minr,
                .minc = (int32_t)minc, .path = (point *)(void *)scratch,
                .points = (point *)(void *)points, .ends = ends, .capacity = capacity,
                .most_sides = most_sides};
    memset(t.field, 0, (h + UINT64_C(2)) * stride + 8);
    for (uint64_t y = 0; y < h; y++) {
        uint8_t *line = t.field + (y + 1) * stride + 1;
        for (uint64_t x = 0; x < w; x++) {
            line[x] = mask[y * w + x] != 0;
        }
    }
    const uint64_t lowest = UINT64_C(0x0101010101010101);
    int status = MAPIX_OK;
    for (uint32_t y = 0; !status && y < h; y++) {
        const uint8_t *line = t.field + (y + UINT64_C(1)) * stride;
        for (uint64_t x = 0; !status && x < stride; x += 8) {
            uint64_t pixels, above;
            memcpy(&pixels, line + x, 8);
            memcpy(&above, line + x - stride, 8);
            /* pixels below none whose upper side was not followed yet; those of a word change meanwhile */
            for (uint64_t some = pixels & ~above & ~(pixels >> 1) & lowest; !status && some; some &= some - 1) {
                const uint64_t column = x + (uint64_t)__builtin_ctzll(some) / 8;
                if (!(line[column] & SEEN)) {
                    status = trace(&t, (point){(int32_t)column - 1, (int32_t)y});
                }
            }
        }
    }
    *counts = (mapix_outline_counts){t.npoints, t.nrings, t.nsplit};
    return status;
}
