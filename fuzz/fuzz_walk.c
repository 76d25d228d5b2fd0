/* fuzz_walk.c - the walks over a VIMH file, against each other and against a slow reader.
 *
 * mapix_vimh_hop and mapix_vimh_table must give the slow reader's records, call by call, whatever
 * the capacities and borders of the calls; mapix_vimh_run must count the records that are like the
 * first.  An input is: flags, capacity, step, which pages are on the disk or what happens to a mapped file, file. */
#define _GNU_SOURCE
#include "../tests/c/residence.h"
#include "fuzz.h"

#include <sys/mman.h>

enum {
    ROOM = 160 << 10, /* enough for a chain to fill up: more than 8192 records of 14 bytes */
    SMALL_ROOM = 768, /* or two, four, eight times as much: enough for windows of chains, and much faster */
    MOST_CALLS = 16   /* per walk: a table call of a few entries still walks a complete window */
};

typedef struct {
    mapix_map map;
    slow_file slow;
    const uint8_t *file; /* the same bytes, where they cannot vanish */
    uint32_t head_nbytes;
    uint64_t capacity, step; /* of each call */
} walk_case;

static void add_ids(uint64_t ids[4], const uint8_t *file, const slow_record *r) {
    for (unsigned k = 0; k < r->n; k++) {
        const unsigned id = file[r->pairs_at + 2 * k];
        ids[id / 64] |= UINT64_C(1) << id % 64;
    }
}

static int same_ids(const uint8_t *file, const slow_record *a, const slow_record *b) {
    int same = a->n == b->n;
    for (unsigned k = 0; same && k < a->n; k++) {
        same = file[a->pairs_at + 2 * k] == file[b->pairs_at + 2 * k];
    }
    return same;
}

static void check_entry(const mapix_entry *e, const slow_record *r) {
    CHECK(e->at_n == (r->at | (uint64_t)r->n << 56));
    CHECK(e->h == r->h && e->w == r->w && e->c == r->c && e->reserved == 0);
}

/* One call of a table, compared with the slow records from number `first` on; the status. */
static int check_call(const walk_case *t, mapix_walk *walk, int chained, uint64_t stop_at) {
    static mapix_entry *scratch;
    if (!scratch) {
        scratch = block(mapix_scratch_entries() * sizeof *scratch);
    }
    const uint64_t first = walk->nrecords;
    uint64_t ids[4], n = UINT64_MAX;
    memcpy(ids, walk->ids, sizeof ids);
    mapix_entry *entries = block(t->capacity * sizeof *entries);
    const int status =
        chained
            ? mapix_vimh_table(&t->map, walk, stop_at, entries, t->capacity, scratch, &n)
            : mapix_vimh_hop(&t->map, walk, stop_at, entries, t->capacity, &n);
    uint64_t want = 0; /* records that this call must give */
    while (want < t->capacity && first + want < t->slow.nrecords &&
           t->slow.records[first + want].at < stop_at) {
        add_ids(ids, t->file, &t->slow.records[first + want]);
        want++;
    }
    CHECK(n == want && walk->nrecords == first + want);
    for (uint64_t i = 0; i < n; i++) {
        check_entry(&entries[i], &t->slow.records[first + i]);
    }
    CHECK(memcmp(ids, walk->ids, sizeof ids) == 0);
    const uint64_t at = walk->nrecords ? t->slow.records[walk->nrecords - 1].end : 0;
    CHECK(walk->at == at);
    const int bad = walk->nrecords == t->slow.nrecords && t->slow.status && at < stop_at &&
                    n < t->capacity;
    CHECK(status == (bad ? t->slow.status : MAPIX_OK));
    CHECK(!bad || memcmp(&walk->where, &t->slow.where, sizeof walk->where) == 0);
    free(entries);
    return status;
}

static void check_table(const walk_case *t, int chained) {
    mapix_walk walk = {.head_nbytes = t->head_nbytes};
    while (walk.at < t->map.nbytes) {
        const uint64_t stop = t->step ? walk.at + t->step : UINT64_MAX;
        if (check_call(t, &walk, chained, stop)) {
            return;
        }
    }
    CHECK(walk.nrecords == t->slow.nrecords && t->slow.status == MAPIX_OK);
}

/* How many records from the start are like the first. */
static uint64_t run_length(const slow_file *slow) {
    const slow_record *a = slow->records;
    uint64_t n = 1;
    while (n < slow->nrecords && a[n].h == a->h && a[n].w == a->w && a[n].c == a->c &&
           a[n].n == a->n) {
        n++;
    }
    return n;
}

static void check_run(const walk_case *t) {
    mapix_walk walk = {.head_nbytes = t->head_nbytes};
    if (t->slow.nrecords == 0) {
        mapix_where where = t->slow.where;
        const int status = mapix_vimh_run(&t->map, &walk, UINT64_MAX);
        if (t->map.nbytes == 0) { /* an empty file has no first record */
            where = (mapix_where){.expected = t->head_nbytes + 1};
        }
        CHECK(status == (t->map.nbytes ? t->slow.status : MAPIX_E_TRUNCATED));
        CHECK(memcmp(&walk.where, &where, sizeof where) == 0 && walk.nrecords == 0);
        return;
    }
    const slow_record *first = t->slow.records;
    const uint64_t want = run_length(&t->slow);
    for (uint64_t before = UINT64_MAX; walk.nrecords != before;) {
        before = walk.nrecords;
        const uint64_t stop = t->step ? walk.at + t->step : UINT64_MAX;
        CHECK(mapix_vimh_run(&t->map, &walk, stop) == MAPIX_OK);
        CHECK(walk.nrecords <= want && walk.at == walk.nrecords * first->end);
        CHECK(walk.nrecords == want || walk.at >= stop);
        CHECK(walk.at < stop || walk.at - stop < 8 * first->end); /* read eight at a time */
    }
    CHECK(walk.nrecords == want);
    uint64_t ids[4] = {0, 0, 0, 0};
    int differ = 0;
    for (uint64_t i = 0; i < want; i++) {
        add_ids(ids, t->file, &t->slow.records[i]);
        differ |= !same_ids(t->file, first, &t->slow.records[i]);
    }
    CHECK(memcmp(ids, walk.ids, sizeof ids) == 0 && walk.ids_differ == (uint32_t)differ);
}

/* The caller's mistakes are reported, and nothing is written. */
static void check_mistakes(const walk_case *t) {
    mapix_walk beyond = {.head_nbytes = t->head_nbytes, .at = t->map.nbytes + 1};
    mapix_walk headless = {.head_nbytes = t->head_nbytes + 1};
    uint64_t n = 9;
    CHECK(mapix_vimh_run(&t->map, &beyond, UINT64_MAX) == MAPIX_E_ARGUMENT);
    CHECK(mapix_vimh_run(&t->map, &headless, UINT64_MAX) == MAPIX_E_ARGUMENT);
    CHECK(mapix_vimh_hop(&t->map, &beyond, UINT64_MAX, NULL, 0, &n) == MAPIX_E_ARGUMENT);
    CHECK(mapix_vimh_table(&t->map, &headless, UINT64_MAX, NULL, 0, NULL, &n) ==
              MAPIX_E_ARGUMENT && n == 0);
}

/* A file of large records, nothing of it in memory but a few headers: the run asks the kernel for
 * headers ahead.  Or a file that loses its tail: the walk reports it. */
static void check_mapped(const walk_case *t, int sparse, uint64_t nth) {
    const uint64_t size = sparse ? 400 * 65600 : t->map.nbytes + 1;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(base != MAP_FAILED);
    mapix_map map = {.base = base, .nbytes = sparse ? size : t->map.nbytes, .fd = -1};
    mapix_walk walk = {.head_nbytes = t->head_nbytes};
    uint64_t n;
    if (sparse) { /* 64 headers ahead are tested, and 320 records make a table's second step */
        nth *= 6;
        const uint8_t header[6] = {0, 1, 0, 1, 1, 0}; /* 256 x 256 x 1 */
        const uint64_t stride = 65536 + t->head_nbytes + 1;
        for (uint64_t i = 0; i < nth; i++) {
            memcpy(base + i * stride, header, sizeof header);
        }
        CHECK(mapix_vimh_run(&map, &walk, UINT64_MAX) == (nth ? MAPIX_OK : MAPIX_E_ZERO));
        CHECK(walk.nrecords == nth);
        walk = (mapix_walk){.head_nbytes = t->head_nbytes};
        mapix_entry *entries = block((nth + 1) * sizeof *entries);
        CHECK(mapix_vimh_table(&map, &walk, UINT64_MAX, entries, nth + 1, NULL, &n) ==
              MAPIX_E_ZERO);
        CHECK(n == nth && walk.where.record == nth && walk.where.at == nth * stride);
        free(entries);
    } else if (t->map.nbytes) {
        mapix_entry *entries = block(t->map.nbytes * sizeof *entries);
        memcpy(base, t->file, t->map.nbytes);
        const uint64_t kept = nth * page < t->map.nbytes ? nth * page : 0;
        CHECK(ftruncate(fd, (off_t)kept) == 0);
        const int status = mapix_vimh_hop(&map, &walk, UINT64_MAX, entries, t->map.nbytes, &n);
        CHECK(status == MAPIX_E_FAULT || status == t->slow.status);
        CHECK(status != MAPIX_E_FAULT || (n == 0 && walk.nrecords == 0));
        const int ran = mapix_vimh_run(&map, &walk, UINT64_MAX);
        CHECK(kept ? 1 : ran == MAPIX_E_FAULT || t->map.nbytes < t->head_nbytes + 1);
        free(entries);
    }
    map.fd = 1 << 30; /* a descriptor that is not open; then one of another size than was noted */
    CHECK(!map.nbytes || mapix_vimh_hop(&map, &walk, 0, NULL, 0, &n) == MAPIX_E_CHANGED);
    map.fd = fd;
    CHECK(!map.nbytes || mapix_vimh_hop(&map, &walk, 0, NULL, 0, &n) == MAPIX_E_CHANGED);
    CHECK(munmap(base, size) == 0 && close(fd) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    static uint8_t room[ROOM];
    input in = {data, nbytes};
    const unsigned flags = take(&in);
    walk_case t = {.head_nbytes = flags & 1 ? 14 : 6};
    t.capacity = 1 + take_n(&in, 2);
    t.step = take_n(&in, 2) << (flags >> 6);
    const uint64_t nth = take(&in);
    draft d = {.bytes = room, .room = SMALL_ROOM << (flags >> 4 & 3), .head_nbytes = t.head_nbytes};
    d.room = (flags & 48) == 48 && nth == 127 ? ROOM : d.room; /* few, because each takes a thousand times as long */
    draft_file(&d, &in, flags & 2);

    uint8_t *file = block(d.nbytes);
    memcpy(file, room, d.nbytes);
    t.file = file;
    t.map = (mapix_map){.base = file, .nbytes = d.nbytes, .fd = -1};
    t.slow = slow_walk(file, d.nbytes, t.head_nbytes);
    const uint64_t least = t.slow.nrecords / MOST_CALLS + 1;
    const uint64_t most = t.slow.nrecords + 2; /* more would only cost time */
    t.capacity = t.capacity < least ? least : t.capacity > most ? most : t.capacity;
    if (t.step) {
        const uint64_t shortest = d.nbytes / MOST_CALLS + 1;
        t.step = t.step < shortest ? shortest : t.step;
    }
    check_run(&t);
    check_table(&t, 0);
    residence = nth == 128 ? RESIDENCE_FAILS : nth & 128 ? (unsigned)nth & 127 : RESIDENCE_REAL;
    residence_ncalls = 0;
    check_table(&t, 1);
    residence = RESIDENCE_REAL;
    check_mistakes(&t);
    if ((flags & 12) == 12 && nth & 128) { /* a mapping and a fault cost more than all the rest */
        check_mapped(&t, nth & 64, nth & 63);
    }
    free(t.slow.records);
    free(file);
    return 0;
}
