/* iid_rows.h - the regions of a segment that meet a window: their pixels, each once, or as one bitmap.
 *
 * A segment of one region, as most are, is read in place.  Regions of a segment can share pixels, so several
 * are combined on a canvas first.  All work is proportional to the bits of regions, never to a box without
 * bits. */
#ifndef MAPIX_IID_ROWS_H
#define MAPIX_IID_ROWS_H

#include "iid.h"

enum { ROWS_AHEAD = 16, SEGMENTS_AHEAD = 6, MOST_FETCHED = 512, MOST_NEAR = 24, FEW = 8 };

/* A segment whose regions were all checked, and those of them that meet a window. */
typedef struct {
    iid_segment segment;
    unsigned nnear;     /* at most MOST_NEAR */
    int all_near;       /* whether these are all of them */
    uint16_t bounds[4]; /* around what all of them share with the window */
    uint64_t nwords;    /* of rows of what they share, up to 64 pixels each */
    iid_region near[MOST_NEAR];
} checked;

/* Walk the regions of c->segment. */
static inline int check_regions(checked *c, const uint16_t window[4], mapix_where *where) {
    uint64_t at = 0;
    int more = 1, status;
    iid_region r;
    c->nnear = 0;
    c->all_near = 1;
    c->nwords = 0;
    c->bounds[MINR] = c->bounds[MINC] = UINT16_MAX;
    c->bounds[MAXR] = c->bounds[MAXC] = 0;
    while (!(status = iid_next_region(&c->segment, &at, &r, &more, where)) && more) {
        uint16_t part[4];
        if (!iid_meet(r.box, window, part)) {
            continue;
        }
        for (unsigned side = MINR; side <= MINC; side++) {
            c->bounds[side] = iid_min(c->bounds[side], part[side]);
            c->bounds[side + 2] = iid_max(c->bounds[side + 2], part[side + 2]);
        }
        c->nwords += (uint64_t)(part[MAXR] - part[MINR]) * ((uint64_t)(part[MAXC] - part[MINC] + 63) / 64);
        if (c->nnear < MOST_NEAR) {
            c->near[c->nnear++] = r;
        } else {
            c->all_near = 0;
        }
    }
    return status;
}

static inline int check_segment(const mapix_map *map, const mapix_iid *iid, uint32_t key,
                                const uint16_t window[4], checked *c, mapix_where *where) {
    const int status = iid_segment_of(map, iid, key, &c->segment, where);
    return status ? status : check_regions(c, window, where);
}

/* Where one is among the regions that meet a window; zeros to begin with. */
typedef struct {
    unsigned k;
    uint64_t at;
} near_place;

/* The next region that meets the window, and what they share; 0 after the last one.  Those beyond
 * MOST_NEAR are read again; they were checked before. */
static inline int next_near(const checked *c, const uint16_t window[4], near_place *place,
                            iid_region *r, uint16_t part[4]) {
    if (c->all_near) {
        while (place->k < c->nnear) {
            *r = c->near[place->k++];
            if (iid_meet(r->box, window, part)) {
                return 1;
            }
        }
        return 0;
    }
    int more = 1;
    mapix_where ignored;
    while (!iid_next_region(&c->segment, &place->at, r, &more, &ignored) && more) {
        if (iid_meet(r->box, window, part)) {
            return 1;
        }
    }
    return 0;
}

/* --- pixels of several regions, each once -------------------------------------------------------- */

typedef enum {
    CANVAS_ADD,   /* set the segment's pixels; returns how many were not set */
    CANVAS_TAKE,  /* clear them; returns how many were set */
    CANVAS_BOTH,  /* set those that are also set in `other` */
    CANVAS_CLEAR, /* clear all words that CANVAS_ADD may have written */
} canvas_what;

/* Combine the regions of a segment with a canvas of the rows of a band, nwords words per row, the leftmost
 * pixel in the highest bit.  `other` is as large; null unless for CANVAS_BOTH. */
static inline uint64_t use_canvas(const checked *c, const uint16_t band[4], uint64_t *canvas,
                                  const uint64_t *other, uint64_t nwords, canvas_what what) {
    near_place place = {0, 0};
    iid_region r;
    uint16_t part[4];
    uint64_t found = 0;
    while (next_near(c, band, &place, &r, part)) {
        for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
            const uint64_t line = (row - band[MINR]) * nwords;
            if (what == CANVAS_CLEAR) {
                const uint32_t first = (uint32_t)(part[MINC] - band[MINC]) >> 6;
                const uint32_t last = (uint32_t)(part[MAXC] - 1 - band[MINC]) >> 6;
                memset(canvas + line + first, 0, (last - first + 1) * sizeof *canvas);
                continue;
            }
            for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
                const uint64_t word = iid_row_word(&r, row, col, part[MAXC]);
                const uint32_t to = col - band[MINC];
                const unsigned shift = to & 63;
                const uint64_t halves[2] = {word >> shift, shift ? word << (64 - shift) : 0};
                for (unsigned k = 0; k < 2; k++) {
                    if (!halves[k]) {
                        continue; /* it may lie after the last word */
                    }
                    const uint64_t at = line + (to >> 6) + k;
                    const uint64_t both = halves[k] & canvas[at];
                    found += (uint64_t)__builtin_popcountll(what == CANVAS_ADD ? halves[k] ^ both : both);
                    canvas[at] = what == CANVAS_TAKE   ? canvas[at] & ~halves[k]
                                 : what == CANVAS_BOTH ? canvas[at] | (other[at] & halves[k])
                                                       : canvas[at] | halves[k];
                }
            }
        }
    }
    return found;
}

/* The band of rows from `row` on that fits a canvas; 0 after the last one.  nwords is what a row has. */
static inline int next_band(const uint16_t bounds[4], const mapix_canvas *canvas, uint32_t *row,
                            uint16_t band[4], uint64_t *nwords) {
    if (*row >= bounds[MAXR]) {
        return 0;
    }
    *nwords = ((uint64_t)(bounds[MAXC] - bounds[MINC]) + 63) / 64;
    const uint64_t fit = canvas->nwords / *nwords, left = bounds[MAXR] - *row;
    memcpy(band, bounds, 8);
    band[MINR] = (uint16_t)*row;
    *row += (uint32_t)(fit < left ? fit : left);
    band[MAXR] = (uint16_t)*row;
    return 1;
}

/* Pixels of a part of one region. */
static inline uint64_t count_part(const iid_region *r, const uint16_t part[4]) {
    uint64_t found = 0;
    for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            found += (uint64_t)__builtin_popcountll(iid_row_word(r, row, col, part[MAXC]));
        }
    }
    return found;
}

/* Whether regions are few, and no two boxes meet: then no pixel is in two of them. */
static inline int are_apart(const checked *c) {
    uint16_t both[4];
    int apart = c->nnear <= FEW; /* fewer than MOST_NEAR: so these are all */
    for (unsigned i = 1; apart && i < c->nnear; i++) {
        for (unsigned k = 0; apart && k < i; k++) {
            apart = !iid_meet(c->near[i].box, c->near[k].box, both);
        }
    }
    return apart;
}

/* --- one bitmap of several regions --------------------------------------------------------------- */

enum { BITMAP_SLACK = 16 }; /* bytes of a row that may be read or written after its pixels */

/* Rows of bits, the first pixel in the highest bit of a byte, as the file has them. */
typedef struct {
    const uint8_t *bits;
    uint64_t stride; /* bits from one row to the next */
    uint16_t box[4];
} iid_bitmap;

static inline uint64_t iid_bitmap_nbytes(const uint16_t box[4]) {
    const uint64_t h = box[MAXR] - box[MINR], w = box[MAXC] - box[MINC];
    return h * ((w + 7) / 8) + BITMAP_SLACK;
}

/* 57 bits or more from bit `from` on, in the highest places.  Reads eight bytes. */
MAPIX_INLINE uint64_t iid_load(const uint8_t *bits, uint64_t from) {
    uint64_t word;
    memcpy(&word, bits + (from >> 3), 8);
    return __builtin_bswap64(word) << (from & 7);
}

/* Or a word into bytes that lie anywhere; 9 of them are read and written. */
static inline void iid_or_bits(uint8_t *bits, uint64_t from, uint64_t word) {
    uint8_t *p = bits + (from >> 3);
    const unsigned shift = from & 7;
    uint64_t held;
    memcpy(&held, p, 8);
    held |= __builtin_bswap64(word >> shift);
    memcpy(p, &held, 8);
    if (shift) {
        p[8] |= (uint8_t)(word << (8 - shift));
    }
}

/* Write the pixels of a segment in a window to `bits`, of iid_bitmap_nbytes(window).  The segment's regions
 * must have been checked.  *nwords counts the words read.  Stops if the file has changed. */
static inline iid_bitmap iid_flatten(const iid_segment *s, const uint16_t window[4], uint8_t *bits,
                                     uint64_t *nwords) {
    const uint64_t row_nbytes = ((uint64_t)(window[MAXC] - window[MINC]) + 7) / 8;
    iid_bitmap made = {bits, 8 * row_nbytes, {window[0], window[1], window[2], window[3]}};
    memset(bits, 0, iid_bitmap_nbytes(window));
    uint64_t at = 0;
    int more = 1;
    mapix_where ignored;
    iid_region r;
    while (!iid_next_region(s, &at, &r, &more, &ignored) && more) {
        uint16_t part[4];
        if (!iid_meet(r.box, window, part)) {
            continue;
        }
        for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
            const uint64_t line = (row - window[MINR]) * made.stride;
            for (uint32_t c = part[MINC]; c < part[MAXC]; c += 64) {
                const uint64_t word = iid_row_word(&r, row, c, part[MAXC]);
                ++*nwords;
                iid_or_bits(bits, line + (c - window[MINC]), word);
            }
        }
    }
    return made;
}

#endif
