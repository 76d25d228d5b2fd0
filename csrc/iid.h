/* iid.h - read one segment of an IID archive and its regions; all fields are checked. */
#ifndef MAPIX_IID_H
#define MAPIX_IID_H

#include "guard.h"
#include "simd.h"

#include <string.h>

enum { LUT_ROW = 20, NAME_HEAD = 12, SEGMENT_HEAD = 16, REGION_HEAD = 12 };
enum { MINR, MINC, MAXR, MAXC };

typedef struct {
    uint32_t key, area;
    uint16_t box[4];
    int swapped;
    uint64_t at;            /* of the file, for messages */
    const uint8_t *regions; /* after the head */
    uint64_t regions_nbytes;
} iid_segment;

typedef struct {
    uint16_t box[4];
    const uint8_t *bits;
    uint64_t nbytes; /* of the bits */
} iid_region;

static inline uint32_t iid_u32(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

static inline int iid_fail(mapix_where *where, int status, uint64_t key, uint64_t at,
                           uint64_t expected, uint64_t got) {
    where->record = key;
    where->at = at;
    where->expected = expected;
    where->got = got;
    return status;
}

/* Whether all sections lie in the map. */
static inline int iid_usable(const mapix_map *map, const mapix_iid *iid) {
    const uint64_t all = map->nbytes;
    return iid->lut_at <= all && iid->nsegments <= (all - iid->lut_at) / LUT_ROW &&
           iid->iids_at <= all && iid->iids_nbytes <= all - iid->iids_at && iid->segs_at <= all &&
           iid->segs_nbytes <= all - iid->segs_at && iid->nsegments <= UINT32_MAX;
}

#define MAPIX_SEVERAL UINT64_MAX

/* A lookup row: where its name and its segment are, in their sections. */
typedef struct {
    uint64_t at;
    uint32_t key, name_at, name_nbytes, segment_at, segment_nbytes;
} iid_row;

static inline iid_row iid_row_of(const mapix_map *map, const mapix_iid *iid, uint64_t key) {
    const uint64_t at = iid->lut_at + key * LUT_ROW;
    const uint8_t *p = map->base + at;
    return (iid_row){at, iid_u32(p), iid_u32(p + 4), iid_u32(p + 8), iid_u32(p + 12),
                     iid_u32(p + 16)};
}

static inline int iid_check_row(const mapix_iid *iid, const iid_row *row, uint64_t key,
                                mapix_where *where) {
    if (row->key != key) {
        return iid_fail(where, MAPIX_E_IID_KEY, key, row->at, key, row->key);
    }
    const uint64_t name_end = (uint64_t)row->name_at + row->name_nbytes;
    if (name_end > iid->iids_nbytes || row->name_nbytes < NAME_HEAD) {
        return iid_fail(where, MAPIX_E_IID_SPAN, key, row->at + 4,
                        row->name_nbytes < NAME_HEAD ? (uint64_t)row->name_at + NAME_HEAD : name_end,
                        iid->iids_nbytes);
    }
    const uint64_t end = (uint64_t)row->segment_at + row->segment_nbytes;
    if (end > iid->segs_nbytes || row->segment_nbytes < SEGMENT_HEAD) {
        const uint64_t least = (uint64_t)row->segment_at + SEGMENT_HEAD;
        return iid_fail(where, MAPIX_E_IID_SPAN, key, row->at + 12,
                        row->segment_nbytes < SEGMENT_HEAD ? least : end, iid->segs_nbytes);
    }
    return MAPIX_OK;
}

static inline void iid_box(const uint8_t *p, uint16_t box[4]) {
    memcpy(box, p, 8);
}

static inline int iid_upright(const uint16_t box[4]) {
    return box[MINR] <= box[MAXR] && box[MINC] <= box[MAXC];
}

/* The segment of a key: in bounds, of that key, its box upright. */
static inline int iid_segment_of(const mapix_map *map, const mapix_iid *iid, uint64_t key,
                                 iid_segment *s, mapix_where *where) {
    if (key >= iid->nsegments) {
        return iid_fail(where, MAPIX_E_ROW, key, 0, iid->nsegments, key);
    }
    const iid_row row = iid_row_of(map, iid, key);
    const int status = iid_check_row(iid, &row, key, where);
    if (status) {
        return status;
    }
    s->at = iid->segs_at + row.segment_at;
    const uint8_t *p = map->base + s->at;
    const uint32_t first = iid_u32(p), last = iid_u32(p + 12);
    /* before June 2019 the writer put the area first and the key last */
    s->swapped = first != key && last == key;
    if (first != key && !s->swapped) {
        return iid_fail(where, MAPIX_E_IID_KEY, key, s->at, key, first);
    }
    iid_box(p + 4, s->box); /* in both layouts */
    s->key = (uint32_t)key;
    s->area = s->swapped ? first : last;
    if (!iid_upright(s->box)) {
        return iid_fail(where, MAPIX_E_IID_BOX, key, s->at + 4, 0, 0);
    }
    s->regions = p + SEGMENT_HEAD;
    s->regions_nbytes = row.segment_nbytes - SEGMENT_HEAD;
    return MAPIX_OK;
}

/* Prefetch the lookup row of a key, or the first nbytes of its segment.  Always inline: gcc removes calls of
 * a function whose only effect is a prefetch. */
MAPIX_INLINE void iid_prefetch_row(const mapix_map *map, const mapix_iid *iid, uint64_t key) {
    if (key < iid->nsegments) {
        __builtin_prefetch(map->base + iid->lut_at + key * LUT_ROW, 0, 3);
    }
}

MAPIX_INLINE void iid_prefetch(const mapix_map *map, const mapix_iid *iid, uint64_t key,
                                uint32_t nbytes) {
    if (key >= iid->nsegments) {
        return;
    }
    const iid_row row = iid_row_of(map, iid, key);
    const uint64_t end = (uint64_t)row.segment_at + row.segment_nbytes;
    if (end <= iid->segs_nbytes) {
        const uint8_t *p = map->base + iid->segs_at + row.segment_at;
        for (uint32_t k = 0; k < row.segment_nbytes && k < nbytes; k += 64) {
            __builtin_prefetch(p + k, 0, 3);
        }
    }
}

/* Read the region at byte *at of the segment's regions, and advance *at past it.  *more is 0 if there is no
 * region left. */
static inline int iid_next_region(const iid_segment *s, uint64_t *at, iid_region *r, int *more,
                                  mapix_where *where) {
    const uint64_t left = s->regions_nbytes - *at, place = s->at + SEGMENT_HEAD + *at;
    *more = left > 0;
    if (!left) {
        return MAPIX_OK;
    }
    if (left < REGION_HEAD) {
        return iid_fail(where, MAPIX_E_IID_REGION, s->key, place, REGION_HEAD, left);
    }
    const uint8_t *p = s->regions + *at;
    const uint32_t length = iid_u32(p);
    iid_box(p + 4, r->box);
    if (!iid_upright(r->box) || r->box[MINR] < s->box[MINR] || r->box[MINC] < s->box[MINC] ||
        r->box[MAXR] > s->box[MAXR] || r->box[MAXC] > s->box[MAXC]) {
        return iid_fail(where, MAPIX_E_IID_BOX, s->key, place + 4, 0, 0);
    }
    const uint64_t h = r->box[MAXR] - r->box[MINR], w = r->box[MAXC] - r->box[MINC];
    r->nbytes = (h * w + 7) / 8;
    r->bits = p + REGION_HEAD;
    if (length != REGION_HEAD + r->nbytes || length > left) {
        return iid_fail(where, MAPIX_E_IID_REGION, s->key, place, REGION_HEAD + r->nbytes,
                        length > left ? left : length);
    }
    *at += length;
    return MAPIX_OK;
}

/* 64 bits of `bits` from bit `from` on, the first in the highest place; zeros after the end. */
static inline uint64_t iid_word(const uint8_t *bits, uint64_t nbytes, uint64_t from) {
    const uint64_t byte = from >> 3;
    const unsigned shift = from & 7;
    uint64_t word = 0;
    if (byte + 9 <= nbytes) {
        memcpy(&word, bits + byte, 8);
        word = __builtin_bswap64(word) << shift;
        return shift ? word | (uint64_t)bits[byte + 8] >> (8 - shift) : word;
    }
    for (unsigned k = 0; byte + k < nbytes; k++) { /* fewer than nine */
        const int up = 56 - 8 * (int)k + (int)shift;
        word |= up >= 0 ? (uint64_t)bits[byte + k] << up : (uint64_t)bits[byte + k] >> -up;
    }
    return word;
}

static inline uint16_t iid_max(uint16_t a, uint16_t b) {
    return a > b ? a : b;
}

static inline uint16_t iid_min(uint16_t a, uint16_t b) {
    return a < b ? a : b;
}

/* What two boxes share; 0 when that is nothing. */
static inline int iid_meet(const uint16_t a[4], const uint16_t b[4], uint16_t shared[4]) {
    shared[MINR] = iid_max(a[MINR], b[MINR]);
    shared[MINC] = iid_max(a[MINC], b[MINC]);
    shared[MAXR] = iid_min(a[MAXR], b[MAXR]);
    shared[MAXC] = iid_min(a[MAXC], b[MAXC]);
    return shared[MINR] < shared[MAXR] && shared[MINC] < shared[MAXC];
}

/* Pixels [c, c + 64) of one row of a region, the leftmost in the highest bit; those from `end` on
 * are zero.  c is in the region, and so is the row. */
static inline uint64_t iid_row_word(const iid_region *r, uint32_t row, uint32_t c, uint32_t end) {
    const uint64_t w = r->box[MAXC] - r->box[MINC];
    const uint64_t from = (row - r->box[MINR]) * w + (c - r->box[MINC]);
    const uint64_t word = iid_word(r->bits, r->nbytes, from);
    const uint32_t n = end - c;
    return n >= 64 ? word : word & ~(UINT64_MAX >> n);
}

#endif
