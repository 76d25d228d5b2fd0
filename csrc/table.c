/* table.c - see table.h; and functions that locate records: find, willneed, extent. */
#define _GNU_SOURCE
#include "table.h"
#include "pages.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { ENTRIES_AHEAD = 8 }; /* table entries prefetched ahead */

/* --- the runner --------------------------------------------------------------------------------- */

typedef struct {
    const row_run *run;
    unsigned nparts;
    int status[MAPIX_MAX_PARTS];
    uint64_t stopped_at[MAPIX_MAX_PARTS]; /* position in rows */
    mapix_where where[MAPIX_MAX_PARTS];
} row_parts;

typedef struct {
    row_parts *parts;
    unsigned part;
} row_part;

/* The position in rows of the k-th record of a run. */
static inline uint64_t turn(const row_run *run, uint64_t k) {
    return MAPIX_UNLIKELY(run->order != NULL) ? run->order[k].i : k;
}

static inline void prefetch_entry(const row_run *run, uint64_t k, uint64_t end) {
    const mapix_table *table = run->table;
    if (!run->joint && table->entries && k < end) {
        const int64_t row = run->rows[turn(run, k)];
        if (row >= 0 && (uint64_t)row < table->nrecords) {
            MAPIX_PREFETCH(&table->entries[row], 0);
            MAPIX_PREFETCH(&table->entries[row] + 1, 0); /* with which `chained` compares it */
        }
    }
}

/* Bring the record of rows[i] into the cache.  A bad row is reported when its turn comes. */
__attribute__((always_inline)) static inline void prefetch_record(const row_run *run, uint64_t i) {
    located r;
    mapix_where ignored;
    const mapix_map *map = map_at(run, i);
    const mapix_table *table = table_at(run, i);
    if (locate_row(table, map->nbytes, run->rows, i, &r, &ignored) == MAPIX_OK) {
        const int head = run->reads == READS_HEAD;
        prefetch_beginning(map->base + r.at,
                           head ? before_image(table->head_nbytes, r.header.n) : r.size);
    }
}

static int run_part(void *arg) {
    const row_part *mine = arg;
    const row_run *run = mine->parts->run;
    const unsigned nparts = mine->parts->nparts;
    const uint64_t lo = mapix_part_begin(run->nrows, nparts, mine->part);
    const uint64_t hi = mapix_part_begin(run->nrows, nparts, mine->part + 1);
    const uint64_t step = run->step ? run->step : 1;
    const int reads = run->reads != READS_NOTHING;
    mapix_where *where = &mine->parts->where[mine->part];
    for (uint64_t k = lo; reads && k < hi && k < lo + RECORDS_AHEAD; k++) {
        prefetch_record(run, turn(run, k));
    }
    for (uint64_t k = lo; k < hi; k += step) {
        located r;
        const uint64_t i = turn(run, k);
        prefetch_entry(run, k + ENTRIES_AHEAD, hi);
        if (reads && k + RECORDS_AHEAD < hi) {
            prefetch_record(run, turn(run, k + RECORDS_AHEAD));
        }
        *(volatile uint64_t *)&where->record = i; /* for a fault, which cannot report where it was */
        const mapix_map *map = map_at(run, i);
        const mapix_table *table = table_at(run, i);
        int status = locate_row(table, map->nbytes, run->rows, i, &r, where);
        if (reads && !status) {
            status = chained(table, &r, where);
            status = status ? status : confirm(map, table->head_nbytes, &r, where);
        }
        status = status ? status : run->each(run, i, &r, where);
        if (MAPIX_UNLIKELY(status)) {
            mine->parts->stopped_at[mine->part] = i;
            return status;
        }
    }
    return MAPIX_OK;
}

/* Run fn under the guard, for all that a run reads. */
static int guarded(const row_run *run, mapix_guarded_fn fn, void *arg) {
    if (run->joint) {
        return mapix_guarded_parts(run->joint->parts, run->joint->nparts, fn, arg);
    }
    return with_table(run->map, run->table, fn, arg);
}

static void guard_part(void *arg, unsigned part) {
    row_parts *parts = arg;
    const row_run *run = parts->run;
    row_part mine = {parts, part};
    const int plain = run->reads == READS_NOTHING && (run->joint || !run->table->entries);
    parts->status[part] = plain ? run_part(&mine) : guarded(run, run_part, &mine);
    if (parts->status[part] == MAPIX_E_SYSTEM) {
        parts->where[part].got = (uint64_t)errno; /* of this thread */
    }
}

/* Replace where[0]'s position in rows by the record there; under the guard, since the table may be
 * what could not be read. */
static int name_record(void *arg) {
    row_parts *parts = arg;
    const row_run *run = parts->run;
    mapix_where *where = &parts->where[0];
    located r;
    const uint64_t i = where->record;
    const mapix_map *map = map_at(run, i);
    if (locate_row(table_at(run, i), map->nbytes, run->rows, i, &r, where) == MAPIX_OK) {
        where->record = r.row;
        where->at = r.at;
    }
    return MAPIX_OK;
}

/* The status of the first part that failed, with *where filled in. */
static int outcome(row_parts *parts, mapix_where *where) {
    unsigned part = 0;
    while (part < parts->nparts && parts->status[part] == MAPIX_OK) {
        part++;
    }
    if (part == parts->nparts) {
        return MAPIX_OK;
    }
    const int status = parts->status[part];
    const row_run *run = parts->run;
    parts->where[0] = parts->where[part];
    if (run->joint) {
        const uint64_t i = status == MAPIX_E_FAULT ? parts->where[0].record : parts->stopped_at[part];
        run->joint->failed = run->joint->which[i];
    }
    if (status == MAPIX_E_FAULT) {
        (void)guarded(run, name_record, parts);
    }
    *where = parts->where[0];
    if (status == MAPIX_E_SYSTEM) {
        errno = (int)where->got;
    }
    return status;
}

/* mapix_map_check of the map, or of the maps of all parts that have a row. */
static int check_maps(const row_run *run) {
    mapix_joint *joint = run->joint;
    if (!joint) {
        return mapix_map_check(run->map);
    }
    for (uint64_t k = 0; k < joint->nparts; k++) {
        const int moved = joint->touched[k] ? mapix_map_check(joint->parts[k].map) : MAPIX_OK;
        if (moved) {
            joint->failed = k;
            return moved;
        }
    }
    return MAPIX_OK;
}

int mapix_run_rows(const row_run *run, mapix_where *where) {
    if (!run->joint && !table_usable(run->table)) {
        return MAPIX_E_ARGUMENT;
    }
    row_parts parts = {.run = run};
    const unsigned nthreads = run->nthreads < MAPIX_POOL_MAX ? run->nthreads : MAPIX_POOL_MAX;
    parts.nparts = mapix_parts_of(run->nrows, nthreads);
    mapix_pool_run(guard_part, &parts, parts.nparts, nthreads);
    const int status = outcome(&parts, where);
    if (run->reads == READS_NOTHING || status == MAPIX_E_SYSTEM) {
        return status;
    }
    /* A file that changed is the better explanation of whatever was found. */
    const int moved = check_maps(run);
    return moved ? moved : status;
}

/* --- one record --------------------------------------------------------------------------------- */

typedef struct {
    const mapix_map *map;
    const mapix_table *table;
    uint64_t row;
    mapix_entry *found;
    mapix_where where;
} find_job;

static int find(void *arg) {
    find_job *job = arg;
    located r;
    int status = locate(job->table, job->map->nbytes, job->row, &r, &job->where);
    status = status ? status : chained(job->table, &r, &job->where);
    if (!status) {
        job->where.at = r.at; /* for a fault */
        status = confirm(job->map, job->table->head_nbytes, &r, &job->where);
    }
    if (status) {
        return status;
    }
    if (MAPIX_UNLIKELY(pixels(r.header.h, r.header.w, r.header.c) == 0)) {
        job->where.expected = 1;
        job->where.got = packed_shape(r.header.h, r.header.w, r.header.c);
        return MAPIX_E_ZERO;
    }
    entry_set(job->found, r.at, &r.header);
    return MAPIX_OK;
}

int mapix_table_find(const mapix_map *map, const mapix_table *table, uint64_t row,
                     mapix_entry *found, mapix_where *where) {
    if (!table_usable(table)) {
        return MAPIX_E_ARGUMENT;
    }
    find_job job = {.map = map, .table = table, .row = row, .found = found};
    job.where.record = row;
    if (row >= table->nrecords) {
        job.where.expected = table->nrecords;
        job.where.got = row;
        *where = job.where;
        return MAPIX_E_ROW;
    }
    const int status = with_table(map, table, find, &job);
    if (!status || status == MAPIX_E_SYSTEM) {
        return status;
    }
    *where = job.where;
    const int moved = mapix_map_check(map);
    return moved ? moved : status;
}

int mapix_table_find_none(const mapix_map *map, const mapix_table *table, uint64_t row,
                          mapix_entry *found, mapix_where *where) {
    (void)map, (void)table, (void)row, (void)found, (void)where;
    return MAPIX_E_FAULT;
}

/* --- headers that are read, not mapped -------------------------------------------------------------- */

enum { MOST_HEADS = 1 << 10, HEAD_NBYTES = 14 };

typedef struct {
    const mapix_map *map;
    const mapix_table *table;
    uint64_t count;
} heads_job;

static int read_head_agrees(const heads_job *job, const located *r) {
    uint8_t p[HEAD_NBYTES + 1];
    const uint32_t n = job->table->head_nbytes;
    return pread((int)job->map->fd, p, n + 1, (off_t)r->at) == (ssize_t)n + 1 && has_head(p, n, &r->header);
}

static int read_heads(void *arg) {
    const heads_job *job = arg;
    for (int reading = 0; reading < 2; reading++) {
        for (uint64_t k = 0; k < job->count; k++) {
            const uint64_t row = job->count > 1 ? k * (job->table->nrecords - 1) / (job->count - 1) : 0;
            located r;
            mapix_where ignored;
            if (locate(job->table, job->map->nbytes, row, &r, &ignored)) {
                return MAPIX_E_STALE;
            }
            if (!reading) {
                mapix_expect(job->map, r.at, job->table->head_nbytes);
            } else if (!read_head_agrees(job, &r)) {
                return MAPIX_E_STALE;
            }
        }
    }
    return MAPIX_OK;
}

int mapix_table_agrees(const mapix_map *map, const mapix_table *table, uint64_t count) {
    if (map->fd < 0 || !table_usable(table) || !table->head_nbytes || count > MOST_HEADS ||
        count > table->nrecords) {
        return 0;
    }
    heads_job job = {map, table, count};
    return !with_table(map, table, read_heads, &job) && !mapix_map_check(map);
}

/* --- records that are not in memory --------------------------------------------------------------- */

enum { COLD = -1 }; /* ends a run; no status of mapix.h */
enum {
    SAME_READ_NBYTES = 4096,    /* a gap that is read, too */
    SORTED_RECORDS = 1 << 10,   /* at once: 32 KiB of places, on the stack */
    AHEAD_RECORDS = 512,        /* asked for and not copied yet: no disk works on more at once */
    AHEAD_NBYTES = 16 << 20,
};

static int look(const row_run *run, uint64_t i, const located *r, mapix_where *where) {
    (void)where;
    /* the middle of a record stands for all of it: its ends share pages with its neighbours' headers,
     * which an index that was just made has read */
    return mapix_resident(map_at(run, i), r->at + r->size / 2) ? MAPIX_OK : COLD;
}

typedef struct {
    row_place *places;
    uint64_t from; /* position in rows of the first one */
} noting;

static int note(const row_run *run, uint64_t i, const located *r, mapix_where *where) {
    (void)where;
    const noting *job = run->arg;
    const uint32_t part = run->joint ? run->joint->which[i] : 0;
    job->places[i - job->from] = (row_place){i, r->at, r->at + r->size, part};
    return MAPIX_OK;
}

static int compare_places(const void *left, const void *right) {
    const row_place *a = left, *b = right;
    return a->part != b->part ? (a->part < b->part ? -1 : 1) : (a->at > b->at) - (a->at < b->at);
}

/* Ask for records from `asked` on, as many as may be asked for when `copied` records were copied; those
 * that follow one another in a file together.  Returns the first that was not asked for. */
static uint64_t ask(const row_run *run, const row_place *places, uint64_t n, uint64_t asked,
                    uint64_t copied) {
    uint64_t nbytes = 0;
    for (uint64_t k = copied; k < asked; k++) {
        nbytes += places[k].end - places[k].at;
    }
    while (asked < n && (!run->each || asked == copied ||
                         (asked - copied < AHEAD_RECORDS && nbytes < AHEAD_NBYTES))) {
        const row_place *first = &places[asked];
        uint64_t end = first->end;
        do {
            end = places[asked].end > end ? places[asked].end : end;
            nbytes += places[asked].end - places[asked].at;
            asked++;
        } while (asked < n && places[asked].part == first->part &&
                 places[asked].at <= end + SAME_READ_NBYTES && end - first->at < AHEAD_NBYTES);
        mapix_willneed(map_at(run, first->i), first->at, end - first->at);
    }
    return asked;
}

/* mapix_run_cold of n records from rows[from] on, in `places`. */
static int run_sorted(row_run run, uint64_t from, uint64_t n, row_place *places, mapix_where *where) {
    noting job = {places, from};
    row_run noted = {.map = run.map, .table = run.table, .joint = run.joint, .rows = run.rows,
                     .order = places, .nrows = n, .each = note, .arg = &job};
    for (uint64_t k = 0; k < n; k++) {
        places[k].i = from + k;
    }
    int status = mapix_run_rows(&noted, where);
    if (status) {
        return status;
    }
    qsort(places, n, sizeof *places, compare_places);
    uint64_t asked = 0, copied = 0;
    while (!status && asked < n) {
        asked = ask(&run, places, n, asked, copied);
        if (run.each) { /* half of them, while the disk is at work on the other half */
            run.order = places + copied;
            run.nrows = asked < n ? (asked - copied + 1) / 2 : n - copied;
            status = mapix_run_rows(&run, where);
            copied += run.nrows;
        }
    }
    return status;
}

int mapix_run_cold(const row_run *run, uint32_t probe, uint64_t *nasked, mapix_where *where) {
    const uint64_t n = run->nrows;
    int status = COLD;
    *nasked = 0;
    if (probe && probe != MAPIX_PROBE_NONE) {
        const row_run looking = {.map = run->map, .table = run->table, .joint = run->joint,
                                 .rows = run->rows, .nrows = n, .step = probe < n ? n / probe : 1,
                                 .each = look};
        status = mapix_run_rows(&looking, where);
    }
    if (status && status != COLD) {
        return status;
    }
    if (status != COLD) { /* in memory */
        return run->each ? mapix_run_rows(run, where) : MAPIX_OK;
    }
    row_place places[SORTED_RECORDS];
    do {
        const uint64_t left = n - *nasked, count = left < SORTED_RECORDS ? left : SORTED_RECORDS;
        status = run_sorted(*run, *nasked, count, places, where);
        *nasked += status ? 0 : count;
    } while (!status && *nasked < n);
    /* of errors, that of the first record in the order of rows */
    return status && run->each ? mapix_run_rows(run, where) : status;
}

int mapix_table_willneed(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                         uint64_t nrows, uint32_t probe, uint64_t *nasked, mapix_where *where) {
    const row_run run = {.map = map, .table = table, .rows = rows, .nrows = nrows};
    return mapix_run_cold(&run, probe, nasked, where);
}

typedef struct {
    uint64_t most[3], least[3], sum;
    uint64_t *flat_at;
} extents;

static int extend(const row_run *run, uint64_t i, const located *r, mapix_where *where) {
    extents *x = run->arg;
    const uint64_t dims[3] = {r->header.h, r->header.w, r->header.c};
    (void)where;
    for (int k = 0; k < 3; k++) {
        x->most[k] = dims[k] > x->most[k] ? dims[k] : x->most[k];
        x->least[k] = dims[k] < x->least[k] ? dims[k] : x->least[k];
    }
    if (x->flat_at) {
        x->flat_at[i] = x->sum;
    }
    x->sum += dims[0] * dims[1] * dims[2]; /* may wrap where no memory is large enough */
    return MAPIX_OK;
}

int mapix_table_extent(uint64_t nbytes, const mapix_table *table, const int64_t *rows,
                       uint64_t nrows, uint64_t *extent, uint64_t *flat_at, mapix_where *where) {
    const mapix_map no_map = {.nbytes = nbytes, .fd = MAPIX_UNCHECKED};
    extents x = {{0, 0, 0}, {UINT64_MAX, UINT64_MAX, UINT64_MAX}, 0, flat_at};
    const row_run run = {.map = &no_map, .table = table, .rows = rows, .nrows = nrows,
                         .each = extend, .arg = &x};
    const int status = mapix_run_rows(&run, where);
    if (status) {
        return status;
    }
    memcpy(extent, x.most, sizeof x.most);
    memcpy(extent + 3, x.least, sizeof x.least);
    extent[6] = x.sum;
    if (flat_at) {
        flat_at[nrows] = x.sum;
    }
    return MAPIX_OK;
}
