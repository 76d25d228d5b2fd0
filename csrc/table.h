/* table.h - from the number of a record to its bytes, and one runner for all functions of many records.
 *
 * A table (mapix_table) need not be trusted: every record is checked against the size of the file. */
#ifndef MAPIX_TABLE_H
#define MAPIX_TABLE_H

#include "guard.h"
#include "pool.h"
#include "vimh.h"

typedef struct {
    uint64_t row;
    uint64_t at, size; /* of the complete record, in bytes */
    vimh_header header;
} located;

/* Whether an entry is at its place in the chain, if there is one: MAPIX_OK, or MAPIX_E_CHAIN. */
static inline int chained(const mapix_table *table, const located *found, mapix_where *where) {
    if (!table->entries || !table->end) {
        return MAPIX_OK;
    }
    const uint64_t row = found->row, end = found->at + found->size, begin = entry_at(&table->first);
    const int last = row + 1 >= table->nrecords;
    const uint64_t next = last ? table->end : entry_at(&table->entries[row + 1]);
    const int first = row == 0 && found->at != begin;
    if (MAPIX_LIKELY(next == end && !first)) {
        return MAPIX_OK;
    }
    where->record = row;
    where->at = found->at;
    where->expected = first ? begin : end;
    where->got = first ? found->at : next;
    return MAPIX_E_CHAIN;
}

/* Locate record `row`, by its entry alone: MAPIX_OK, or MAPIX_E_SPAN if it does not lie within a file of
 * `nbytes`.  Reads the table, and not the file. */
static inline int locate(const mapix_table *table, uint64_t nbytes, uint64_t row, located *found,
                         mapix_where *where) {
    uint64_t at;
    if (table->entries) {
        const mapix_entry e = table->entries[row];
        at = entry_at(&e);
        found->header = (vimh_header){.h = e.h, .w = e.w, .c = e.c, .n = entry_n(&e)};
        found->size = before_image(table->head_nbytes, found->header.n) + pixels(e.h, e.w, e.c);
    } else {
        const mapix_entry *e = &table->first;
        found->header = (vimh_header){.h = e->h, .w = e->w, .c = e->c, .n = entry_n(e)};
        found->size = table->stride;
        if (__builtin_mul_overflow(row, table->stride, &at) ||
            __builtin_add_overflow(at, entry_at(e), &at)) {
            at = UINT64_MAX;
        }
    }
    found->row = row;
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

/* Fill in `where` for a record whose header in the file differs from the table: MAPIX_E_STALE. */
static inline int stale(const mapix_map *map, const located *found, mapix_where *where) {
    const uint8_t *p = map->base + found->at;
    where->record = found->row;
    where->at = found->at;
    where->expected = packed_shape(found->header.h, found->header.w, found->header.c);
    where->got = found->size < 6 ? 0 : packed_shape(load_u16(p), load_u16(p + 2), load_u16(p + 4));
    return MAPIX_E_STALE;
}

/* Whether a record of the file begins with a header. */
static inline int has_head(const uint8_t *p, uint32_t head_nbytes, const vimh_header *want) {
    return load_u16(p) == want->h && load_u16(p + 2) == want->w && load_u16(p + 4) == want->c &&
           p[head_nbytes] == want->n;
}

/* Compare the table's header of a record with the file's.  Records without headers always agree. */
static inline int confirm(const mapix_map *map, uint32_t head_nbytes, const located *found,
                          mapix_where *where) {
    if (!head_nbytes) {
        return MAPIX_OK;
    }
    if (MAPIX_LIKELY(has_head(map->base + found->at, head_nbytes, &found->header))) {
        return MAPIX_OK;
    }
    return stale(map, found, where);
}

/* Locate record rows[i], by its entry alone; negative numbers count from the end. */
static inline int locate_row(const mapix_table *table, uint64_t nbytes, const int64_t *rows,
                             uint64_t i, located *found, mapix_where *where) {
    const uint64_t n = table->nrecords;
    const uint64_t row = rows[i] < 0 ? n + (uint64_t)rows[i] : (uint64_t)rows[i];
    if (MAPIX_UNLIKELY(row >= n)) {
        where->record = i;
        where->at = 0;
        where->expected = n;
        where->got = (uint64_t)rows[i];
        return MAPIX_E_ROW;
    }
    return locate(table, nbytes, row, found, where);
}

/* Run fn under the guard, which also covers the entries: they may be a mapped file (a stored index). */
static inline int with_table(const mapix_map *map, const mapix_table *table, mapix_guarded_fn fn,
                             void *arg) {
    const uint64_t most = UINT64_MAX / sizeof(mapix_entry);
    const uint64_t n = table->nrecords < most ? table->nrecords : most;
    const mapix_span entries = {table->entries, n * sizeof(mapix_entry)};
    return mapix_guarded(map, table->entries ? &entries : NULL, fn, arg);
}

/* Whether a table is consistent: the stride has to be the size of the record that it repeats. */
static inline int table_usable(const mapix_table *table) {
    const mapix_entry *e = &table->first;
    const uint64_t image = pixels(e->h, e->w, e->c);
    const uint64_t size = before_image(table->head_nbytes, entry_n(e)) + image;
    if (table->head_nbytes == 0) { /* numbers without a known shape have h, w and c 0 */
        return !table->entries && (!table->nrecords || (table->stride && (!image || image == table->stride)));
    }
    return (table->head_nbytes == 6 || table->head_nbytes == 14) &&
           (table->entries || table->nrecords == 0 || table->stride == size);
}

/* --- many records ------------------------------------------------------------------------------- */

/* What `each` reads of a record in the file.  For NOTHING, headers and the places of other
 * entries are not confirmed, and whether the file has changed is not checked. */
typedef enum { READS_NOTHING, READS_HEAD, READS_RECORD } row_reads;

/* A record of a run and its bytes. */
typedef struct {
    uint64_t i; /* position in the rows of the run */
    uint64_t at, end;
    uint32_t part; /* of a joint; or 0 */
} row_place;

/* A function to be called for records rows[0..nrows), and what it needs. */
typedef struct row_run {
    const mapix_map *map;
    const mapix_table *table;
    mapix_joint *joint; /* of records of several files: row i lies in part joint->which[i]; or null */
    const int64_t *rows;
    const row_place *order; /* not null: call it for the nrows records of these positions, in this order */
    uint64_t nrows;
    uint64_t step; /* every step-th of the rows; 0 and 1: all */
    uint32_t nthreads;
    row_reads reads;
    /* Called with the position in `rows` and the record, which is in bounds and confirmed.  Under the
     * guard: see mapix_guarded.  The run ends at the first status that is not MAPIX_OK. */
    int (*each)(const struct row_run *run, uint64_t i, const located *r, mapix_where *where);
    void *arg;
} row_run;

/* The map and the table of rows[i]. */
static inline const mapix_map *map_at(const row_run *run, uint64_t i) {
    return MAPIX_UNLIKELY(run->joint != NULL) ? run->joint->parts[run->joint->which[i]].map : run->map;
}

static inline const mapix_table *table_at(const row_run *run, uint64_t i) {
    return MAPIX_UNLIKELY(run->joint != NULL) ? run->joint->parts[run->joint->which[i]].table : run->table;
}

/* Run it, each part of the rows on whichever of the threads is free, records prefetched ahead.  Returns
 * the status of the first part that failed, with *where filled in; MAPIX_E_ARGUMENT for a table that is
 * not usable; MAPIX_E_CHANGED if the file changed meanwhile. */
int mapix_run_rows(const row_run *run, mapix_where *where);

/* Like mapix_run_rows, of a run without `order` and `step`; records that are not in memory, by
 * mapix_table_willneed's `probe`, are asked for some ahead, in the order in which they lie in their files.
 * Without `each`, they are asked for, and that is all. */
int mapix_run_cold(const row_run *run, uint32_t probe, uint64_t *nasked, mapix_where *where);

#endif
