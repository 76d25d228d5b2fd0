/* iid_rows.h - segments a row of bits at a time, and put together into one bitmap.
 *
 * Segments of one region, which most are, are worked on where they lie; of several, rows are or-ed
 * together first, since nothing in the format keeps regions of a segment from sharing pixels. */
#ifndef MAPIX_IID_ROWS_H
#define MAPIX_IID_ROWS_H

#include "iid.h"

enum { ROW_WORDS = 65536 / 64 + 1, ROWS_AHEAD = 16, SEGMENTS_AHEAD = 6, MOST_FETCHED = 512, MOST_NEAR = 24 };

/* A segment whose regions were all looked at, and those of them that meet a window. */
typedef struct {
    iid_segment segment;
    uint64_t nregions;
    unsigned nnear; /* as many as there was room for */
    int all_near;   /* whether there was room for all of them */
    iid_region near[MOST_NEAR];
} checked;

/* Walk the regions of c->segment. */
static inline int check_regions(checked *c, const uint16_t window[4], mapix_where *where) {
    uint64_t at = 0;
    int more = 1, status;
    iid_region r;
    c->nregions = c->nnear = 0;
    c->all_near = 1;
    while (!(status = iid_next_region(&c->segment, &at, &r, &more, where)) && more) {
        uint16_t part[4];
        c->nregions++;
        if (!iid_meet(r.box, window, part)) {
            continue;
        }
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

/* Column words of one row within a window's columns, from the region itself or from `room`. */
typedef struct {
    const checked *from;
    const uint64_t *words;
    uint32_t row, begin, end; /* columns that the words cover */
} row_of;

static inline row_of take_row(const checked *c, uint32_t row, const uint16_t window[4], uint64_t *room) {
    row_of r = {c, NULL, row, window[MINC], window[MAXC]};
    if (c->nnear == 1) {
        return r;
    }
    const uint64_t nwords = ((uint64_t)(r.end - r.begin) + 63) / 64;
    memset(room, 0, (nwords + 1) * sizeof *room);
    if (c->all_near) {
        for (unsigned k = 0; k < c->nnear; k++) {
            iid_or_region(&c->near[k], row, window, room);
        }
    } else {
        iid_or_row(&c->segment, row, window, room);
    }
    r.words = room;
    return r;
}

/* The next 64 pixels from column c on. */
static inline uint64_t row_word(const row_of *r, uint32_t c) {
    if (r->words) {
        return r->words[(c - r->begin) >> 6];
    }
    const iid_region *only = &r->from->near[0];
    if (r->row < only->box[MINR] || r->row >= only->box[MAXR] || c >= only->box[MAXC]) {
        return 0;
    }
    const uint32_t end = r->end < only->box[MAXC] ? r->end : only->box[MAXC];
    if (c >= only->box[MINC]) {
        return iid_row_word(only, r->row, c, end);
    }
    const uint32_t before = only->box[MINC] - c; /* pixels of the window, not of the region */
    return before >= 64 || only->box[MINC] >= end
               ? 0
               : iid_row_word(only, r->row, only->box[MINC], end) >> before;
}

/* --- one bitmap of several regions --------------------------------------------------------------- */

enum { BITMAP_SLACK = 16 }; /* bytes of a row that may be read or written behind its pixels */

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

/* What of a segment, whose regions were looked at, lies in a window: to `bits`, with room for
 * iid_bitmap_nbytes(window).  Ends where the file is no longer what it was. */
static inline iid_bitmap iid_flatten(const iid_segment *s, const uint16_t window[4], uint8_t *bits) {
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
                iid_or_bits(bits, line + (c - window[MINC]), word);
            }
        }
    }
    return made;
}

#endif
