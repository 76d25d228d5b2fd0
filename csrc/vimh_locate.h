/* vimh_locate.h - from a row number to a record in bounds, by an index that nobody has to trust. */
#ifndef MAPIX_VIMH_LOCATE_H
#define MAPIX_VIMH_LOCATE_H

#include "guard.h"
#include "vimh.h"

enum { ENTRIES_AHEAD = 8 }; /* index entries prefetched ahead */

typedef struct {
    uint64_t at, size; /* of the whole record */
    vimh_header header;
} located;

/* Record `row` as the index has it: in bounds of `nbytes`, or MAPIX_E_SPAN.  The file itself is
 * not touched. */
static inline int locate(const mapix_vimh_index *index, uint64_t nbytes, uint64_t row,
                         located *found, mapix_where *where) {
    uint64_t at;
    if (index->entries) {
        const mapix_entry e = index->entries[row];
        at = entry_at(&e);
        found->header = (vimh_header){.h = e.h, .w = e.w, .c = e.c, .n = entry_n(&e)};
        found->size = before_image(index->head_nbytes, found->header.n) + pixels(e.h, e.w, e.c);
    } else {
        const mapix_entry *e = &index->first;
        found->header = (vimh_header){.h = e->h, .w = e->w, .c = e->c, .n = entry_n(e)};
        found->size = index->stride;
        if (__builtin_mul_overflow(row, index->stride, &at) ||
            __builtin_add_overflow(at, entry_at(e), &at)) {
            at = UINT64_MAX;
        }
    }
    found->at = at;
    if (MAPIX_UNLIKELY(at > nbytes || found->size > nbytes - at)) {
        where->record = row;
        where->at = at;
        where->expected = found->size;
        where->got = at > nbytes ? 0 : nbytes - at;
        return MAPIX_E_SPAN;
    }
    return MAPIX_OK;
}

/* The record in the file is not the one that the index promised. */
static inline int stale(const mapix_map *map, uint64_t row, const located *found, mapix_where *where) {
    const uint8_t *p = map->base + found->at;
    where->record = row;
    where->at = found->at;
    where->expected = packed_shape(found->header.h, found->header.w, found->header.c);
    where->got = found->size < 6 ? 0 : packed_shape(load_u16(p), load_u16(p + 2), load_u16(p + 4));
    return MAPIX_E_STALE;
}

static inline int confirm(const mapix_map *map, uint32_t head_nbytes, uint64_t row,
                          const located *found, mapix_where *where) {
    if (!head_nbytes) { /* bare images say nothing about themselves */
        return MAPIX_OK;
    }
    const uint8_t *p = map->base + found->at;
    const vimh_header *want = &found->header;
    if (MAPIX_LIKELY(load_u16(p) == want->h && load_u16(p + 2) == want->w &&
                     load_u16(p + 4) == want->c && p[head_nbytes] == want->n)) {
        return MAPIX_OK;
    }
    return stale(map, row, found, where);
}

/* rows[i] as a record number, negative ones counted from the end. */
static inline int row_number(const mapix_vimh_index *index, const int64_t *rows, uint64_t i,
                             uint64_t *row, mapix_where *where) {
    const uint64_t n = index->nrecords;
    *row = rows[i] < 0 ? n + (uint64_t)rows[i] : (uint64_t)rows[i];
    if (MAPIX_UNLIKELY(*row >= n)) {
        where->record = i;
        where->at = 0;
        where->expected = n;
        where->got = (uint64_t)rows[i];
        return MAPIX_E_ROW;
    }
    return MAPIX_OK;
}

/* rows[i], located in a file of nbytes. */
static inline int locate_row(uint64_t nbytes, const mapix_vimh_index *index, const int64_t *rows,
                      uint64_t i, located *found, mapix_where *where) {
    uint64_t row;
    const int status = row_number(index, rows, i, &row, where);
    return status ? status : locate(index, nbytes, row, found, where);
}

/* The entry of rows[later] into the cache, when there is such a row. */
static inline void prefetch_entry(const mapix_vimh_index *index, const int64_t *rows,
                                  uint64_t later, uint64_t end) {
    if (index->entries && later < end && rows[later] >= 0 &&
        (uint64_t)rows[later] < index->nrecords) {
        MAPIX_PREFETCH(&index->entries[rows[later]], 0);
    }
}

/* Run fn over the records that an index tells of.  A table may be a mapped file of its own (a
 * stored index), so that reading it needs the guard as much as reading the data does. */
static inline int with_index(const mapix_map *map, const mapix_vimh_index *index, mapix_guarded_fn fn,
                      void *arg) {
    const uint64_t most = UINT64_MAX / sizeof(mapix_entry);
    const uint64_t n = index->nrecords < most ? index->nrecords : most;
    const mapix_span table = {index->entries, n * sizeof(mapix_entry)};
    return mapix_guarded(map, index->entries ? &table : NULL, fn, arg);
}

/* Whether the core can work with it: a stride has to be the size of the record that it repeats. */
static inline int index_usable(const mapix_vimh_index *index) {
    const mapix_entry *e = &index->first;
    const uint64_t size = before_image(index->head_nbytes, entry_n(e)) + pixels(e->h, e->w, e->c);
    const int bare = index->head_nbytes == 0 && !index->entries && (size || !index->nrecords);
    return (index->head_nbytes == 6 || index->head_nbytes == 14 || bare) &&
           (index->entries || index->nrecords == 0 || index->stride == size);
}

#endif
