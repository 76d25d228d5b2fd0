/* fuzz_small.c - the small entry points: copy, warm, checksum, extent, readahead, change check, find, the header of a
 * stored index.
 *
 * The first byte of an input chooses one; the rest are its arguments and its data. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_ROWS = 32, MOST_ENTRIES = 16 };

/* A byte offset near an end of the file, or anywhere in 64 bits. */
static uint64_t take_offset(input *in, uint64_t nbytes) {
    const uint8_t kind = take(in);
    const uint64_t value = take_n(in, kind & 4 ? 8 : 2);
    return kind & 1 ? nbytes - value : kind & 2 ? nbytes + value : value;
}

/* What is left of the input, in a block of its own. */
static mapix_map rest_as_map(input *in) {
    uint8_t *bytes = block(in->left);
    memcpy(bytes, in->next, in->left);
    return (mapix_map){.base = bytes, .nbytes = in->left, .fd = -1};
}

static void free_map(const mapix_map *map) {
    free((void *)(uintptr_t)map->base);
}

/* What happens to a file after it was opened. */
enum { NOTHING, WRITTEN, CUT, CLOSED, NO_DESCRIPTOR, NFATES };

/* A map's bytes in a file, too, to which something happens; *fd is to be closed. */
static mapix_map in_a_file(const mapix_map *map, unsigned *fate, int *fd) {
    struct stat s;
    *fd = memfd_create("fuzz", MFD_CLOEXEC);
    *fate = *fate == CUT && !map->nbytes ? NOTHING : *fate;
    CHECK(*fd >= 0 && pwrite(*fd, map->base, map->nbytes, 0) == (ssize_t)map->nbytes && fstat(*fd, &s) == 0);
    const int64_t second = 1000000000;
    mapix_map file = *map;
    file.fd = *fate == CLOSED ? 1 << 30 : *fate == NO_DESCRIPTOR ? -1 : *fd;
    file.dev = s.st_dev, file.ino = s.st_ino, file.size = (uint64_t)s.st_size;
    file.mtime_ns = s.st_mtim.tv_sec * second + s.st_mtim.tv_nsec - (*fate == WRITTEN);
    file.ctime_ns = s.st_ctim.tv_sec * second + s.st_ctim.tv_nsec;
    CHECK(*fate != CUT || ftruncate(*fd, (off_t)(map->nbytes / 2)) == 0);
    return file;
}

/* The same bytes, by reading the file: of one to which something happened, none count. */
static void check_read(const mapix_map *map, uint64_t at, uint64_t nbytes, int inside) {
    unsigned fate = map->nbytes % NFATES;
    int fd;
    const mapix_map file = in_a_file(map, &fate, &fd);
    const int lost = fate != NOTHING && fate != NO_DESCRIPTOR;
    uint8_t *to = block(inside ? nbytes : 0);
    mapix_where where;
    const int status = mapix_read(&file, at, nbytes, to, &where);
    CHECK(status == (!inside ? MAPIX_E_SPAN : lost && nbytes ? MAPIX_E_CHANGED : MAPIX_OK));
    CHECK(status || !nbytes || memcmp(to, map->base + at, nbytes) == 0);
    free(to);
    CHECK(close(fd) == 0);
}

static void check_copy(input *in) {
    input after = *in;
    (void)take_n(&after, 6);
    const mapix_map map = rest_as_map(&after);
    const uint64_t at = take_offset(in, map.nbytes), nbytes = take_offset(in, map.nbytes);
    const int inside = at <= map.nbytes && nbytes <= map.nbytes - at;
    uint8_t *to = block(inside ? nbytes : 0);
    mapix_where where = {1, 2, 3, 4};
    const int status = mapix_copy(&map, at, nbytes, to, &where);
    CHECK(status == (inside ? MAPIX_OK : MAPIX_E_SPAN));
    if (inside) {
        CHECK(nbytes == 0 || memcmp(to, map.base + at, nbytes) == 0);
    } else {
        CHECK(where.record == 0 && where.at == at && where.expected == nbytes);
        CHECK(where.got == (at > map.nbytes ? 0 : map.nbytes - at));
    }
    check_read(&map, at, nbytes, inside);
    free(to);
    free_map(&map);
}

/* CRC32C a bit at a time, by its polynomial. */
static uint32_t slow_crc(const uint8_t *p, uint64_t nbytes, uint32_t crc) {
    crc = ~crc;
    for (uint64_t i = 0; i < nbytes; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
        }
    }
    return ~crc;
}

/* Some places of a file, one after the other. */
static void check_sums(const mapix_map *map, uint64_t first, uint32_t begin) {
    const uint64_t nbytes = (first + begin) % (map->nbytes + 2), places[3] = {first, 0, first / 2};
    const uint64_t nplaces = begin % 4;
    unsigned fate = begin / 4 % NFATES;
    int fd, inside = 1;
    const mapix_map file = in_a_file(map, &fate, &fd);
    const int lost = fate != NOTHING && fate != NO_DESCRIPTOR;
    uint32_t want = begin, got = begin;
    for (uint64_t k = 0; k < nplaces && inside; k++) {
        inside = places[k] + nbytes <= map->nbytes;
        want = inside ? slow_crc(map->base + places[k], nbytes, want) : want;
    }
    const int status = mapix_file_crc32c(&file, places, nplaces, nbytes, &got);
    CHECK(status == (!inside ? MAPIX_E_SPAN : lost ? MAPIX_E_CHANGED : MAPIX_OK));
    CHECK(got == (status ? begin : want) && close(fd) == 0);
}

static void check_crc(input *in) {
    const uint32_t begin = (uint32_t)take_n(in, 4);
    const uint64_t cut = take_n(in, 2);
    const mapix_map map = rest_as_map(in);
    const uint64_t first = cut % (map.nbytes + 1);
    const uint32_t want = slow_crc(map.base, map.nbytes, begin);
    for (int level = 0; level < 3; level++) { /* the table; the instruction, where there is one */
        CHECK(mapix_simd(level) <= level);
        CHECK(mapix_crc32c(map.base, map.nbytes, begin) == want);
        const uint32_t half = mapix_crc32c(map.base, first, begin);
        CHECK(mapix_crc32c(map.base + first, map.nbytes - first, half) == want);
    }
    const uint64_t size = cut % 9 + 1, nblocks = map.nbytes / size + (map.nbytes % size > 0);
    uint32_t *sums = block(nblocks * sizeof *sums);
    mapix_crc32c_blocks(map.base, map.nbytes, size, sums);
    for (uint64_t k = 0; k < nblocks; k++) {
        const uint64_t left = map.nbytes - k * size;
        const uint32_t sum = slow_crc(map.base + k * size, left < size ? left : size, 0);
        CHECK(sums[k] == (sum ? sum : 1));
    }
    free(sums);
    check_sums(&map, first, begin);
    free_map(&map);
}

/* A table with any contents, and rows of it. */
typedef struct {
    mapix_table index;
    int64_t *rows;
    uint64_t nrows;
} any_index;

static mapix_entry take_entry(input *in, unsigned kind) {
    mapix_entry e = {take_n(in, kind & 4 ? 8 : 2), 0, 0, 0, 0};
    const unsigned nbytes = kind & 8 ? 2 : 1;
    e.h = (uint16_t)take_n(in, nbytes);
    e.w = (uint16_t)take_n(in, nbytes);
    e.c = (uint16_t)take_n(in, nbytes);
    return e;
}

/* Bytes of a record; without a header it is as long as the stride. */
static uint64_t slow_size(const mapix_table *x, const mapix_entry *e) {
    const uint64_t image = (uint64_t)e->h * e->w * e->c;
    return x->head_nbytes == 0 ? x->stride : x->head_nbytes + 1 + 2 * (e->at_n >> 56) + image;
}

/* Let entries lie one after the other, or all but one, and let them end where they do, or elsewhere. */
static void take_chain(input *in, mapix_table *x, mapix_entry *entries) {
    const unsigned lies = take(in);
    uint64_t at = 0;
    for (uint64_t i = 0; i < x->nrecords; i++) {
        entries[i].at_n = (entries[i].at_n >> 56 << 56) | at;
        at += slow_size(x, &entries[i]);
    }
    x->end = at + (lies & 1 ? take(in) : 0);
    x->first.at_n = lies & 2 ? take(in) : 0;
    if (lies & 4 && x->nrecords) {
        mapix_entry *e = &entries[take(in) % x->nrecords];
        e->at_n ^= take(in);
    }
}

static any_index take_index(input *in) {
    any_index t = {.index = {.head_nbytes = 6}};
    const unsigned kind = take(in);
    t.index.head_nbytes = kind & 1 ? 14 : (kind & 0x70) == 0x70 ? 7 : (kind & 0x70) == 0x60 ? 0 : 6;
    if (kind & 2) {
        t.index.first = take_entry(in, kind);
        t.index.stride = take_n(in, 2);
        if (t.index.stride >> 12) { /* mostly the one that fits: any other is refused */
            const mapix_entry *e = &t.index.first;
            const uint64_t image = (uint64_t)e->h * e->w * e->c;
            t.index.stride = t.index.head_nbytes
                                 ? t.index.head_nbytes + 1 + 2 * (e->at_n >> 56) + image
                                 : image;
        }
        t.index.nrecords = take_n(in, kind & 4 ? 8 : 1);
    } else {
        t.index.nrecords = take(in) % (MOST_ENTRIES + 1);
        mapix_entry *entries = block(t.index.nrecords * sizeof *entries);
        for (uint64_t i = 0; i < t.index.nrecords; i++) {
            entries[i] = take_entry(in, kind);
        }
        if ((kind & 0x30) == 0x10) {
            take_chain(in, &t.index, entries);
        }
        t.index.entries = entries;
    }
    t.nrows = take(in) % (MOST_ROWS + 1);
    t.rows = block(t.nrows * sizeof *t.rows);
    for (uint64_t i = 0; i < t.nrows; i++) {
        const uint64_t row = take_n(in, kind & 128 ? 8 : 1);
        t.rows[i] = kind & 128 ? (int64_t)row : (int64_t)row - 4;
    }
    return t;
}

static void free_index(any_index *t) {
    free(t->rows);
    free((void *)(uintptr_t)t->index.entries);
}

/* rows[i] as a record number in *row, or 0. */
static int slow_row(const any_index *t, uint64_t i, uint64_t *row) {
    const __int128 n = t->index.nrecords, asked = t->rows[i], at = asked < 0 ? n + asked : asked;
    *row = (uint64_t)at;
    return at >= 0 && at < n;
}

static int slow_usable(const mapix_table *x) {
    const uint64_t image = (uint64_t)x->first.h * x->first.w * x->first.c;
    if (x->head_nbytes == 0) {
        return !x->entries && (!x->nrecords || (x->stride && (!image || x->stride == image)));
    }
    return (x->head_nbytes == 6 || x->head_nbytes == 14) &&
           (x->entries || x->nrecords == 0 || x->stride == slow_size(x, &x->first));
}

/* The status of locating rows[i] in a file of nbytes. */
static int slow_lookup(const any_index *t, uint64_t i, uint64_t nbytes) {
    uint64_t row;
    if (!slow_row(t, i, &row)) {
        return MAPIX_E_ROW;
    }
    const mapix_table *x = &t->index;
    const mapix_entry e = x->entries ? x->entries[row] : x->first;
    const unsigned __int128 at = (e.at_n & ((UINT64_C(1) << 56) - 1)) +
                                 (unsigned __int128)(x->entries ? 0 : row) * x->stride;
    const unsigned __int128 end = at + slow_size(x, &e);
    return end <= nbytes ? MAPIX_OK : MAPIX_E_SPAN;
}

/* The same, and of comparing its place with those of its neighbours. */
static int slow_place(const any_index *t, uint64_t i, uint64_t nbytes) {
    const mapix_table *x = &t->index;
    const int status = slow_lookup(t, i, nbytes);
    uint64_t row;
    if (status || !x->entries || !x->end || !slow_row(t, i, &row)) {
        return status;
    }
    const uint64_t mask = (UINT64_C(1) << 56) - 1, at = x->entries[row].at_n & mask;
    const uint64_t end = at + slow_size(x, &x->entries[row]);
    const int begins = row > 0 || at == (x->first.at_n & mask);
    const int ends = row + 1 == x->nrecords ? end == x->end : end == (x->entries[row + 1].at_n & mask);
    return begins && ends ? MAPIX_OK : MAPIX_E_CHAIN;
}

static void check_extent(input *in) {
    const uint64_t nbytes = take_n(in, take(in) & 1 ? 8 : 2);
    any_index t = take_index(in);
    uint64_t got[7], most[3] = {0}, least[3] = {UINT64_MAX, UINT64_MAX, UINT64_MAX}, sum = 0, row;
    mapix_where where = {0};
    uint64_t *flat_at = take(in) & 1 ? block((t.nrows + 1) * sizeof *flat_at) : NULL;
    const int status = mapix_table_extent(nbytes, &t.index, t.rows, t.nrows, got, flat_at, &where);
    int want = slow_usable(&t.index) ? MAPIX_OK : MAPIX_E_ARGUMENT;
    uint64_t i = 0;
    for (; want == MAPIX_OK && i < t.nrows && !(want = slow_lookup(&t, i, nbytes)); i++) {
        CHECK(!flat_at || flat_at[i] == sum);
        CHECK(slow_row(&t, i, &row));
        const mapix_entry e = t.index.entries ? t.index.entries[row] : t.index.first;
        const uint64_t dims[3] = {e.h, e.w, e.c};
        for (int k = 0; k < 3; k++) {
            most[k] = most[k] < dims[k] ? dims[k] : most[k];
            least[k] = least[k] > dims[k] ? dims[k] : least[k];
        }
        sum += dims[0] * dims[1] * dims[2];
    }
    CHECK(status == want);
    if (status == MAPIX_E_ROW) {
        CHECK(where.record == i && where.got == (uint64_t)t.rows[i]);
        CHECK(where.expected == t.index.nrecords && where.at == 0);
    } else if (status == MAPIX_OK) {
        CHECK(memcmp(got, most, sizeof most) == 0 && memcmp(got + 3, least, sizeof least) == 0);
        CHECK(got[6] == sum && (!flat_at || flat_at[t.nrows] == sum));
    }
    free(flat_at);
    free_index(&t);
}

static void check_willneed(input *in) {
    const unsigned probe = take(in) & 7, npages = 1 + (take(in) & 7), touched = take(in);
    any_index t = take_index(in);
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), nbytes = npages * page - take(in);
    uint8_t *base = mmap(NULL, npages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                         -1, 0);
    CHECK(base != MAP_FAILED);
    for (unsigned i = 0; i < npages; i++) { /* an untouched page is one that is not in memory */
        if (touched >> i & 1) {
            base[i * page] = 1;
        }
    }
    const mapix_map map = {.base = base, .nbytes = nbytes, .fd = -1};
    mapix_where where;
    uint64_t nasked = 77;
    const int status =
        mapix_table_willneed(&map, &t.index, t.rows, t.nrows, probe, &nasked, &where);
    const int usable = slow_usable(&t.index);
    uint64_t i = 0;
    int want = MAPIX_OK;
    while (usable && want == MAPIX_OK && i < t.nrows) {
        want = slow_lookup(&t, i++, nbytes);
    }
    CHECK(nasked <= t.nrows);
    if (!usable) {
        CHECK(status == MAPIX_E_ARGUMENT && nasked == 0);
    } else if (!probe) {
        CHECK(status == want && nasked == (want ? 0 : t.nrows));
    } else { /* with a probe a bad row may stay unseen */
        CHECK(want ? nasked < t.nrows : status == MAPIX_OK && (nasked == 0 || nasked == t.nrows));
    }
    CHECK(munmap(base, npages * page) == 0);
    free_index(&t);
}

/* The same map with a descriptor that is not open: then it cannot be found out whether the file changed. */
static mapix_map without_file(const mapix_map *map) {
    mapix_map lost = *map;
    lost.fd = 1 << 30;
    return lost;
}

/* Write the header that the table states into the file, if it fits. */
static void make_true(const mapix_map *map, const any_index *t, uint64_t at, const mapix_entry *e) {
    if (!t->index.head_nbytes) { /* bare images tell nothing */
        return;
    }
    uint8_t *p = (uint8_t *)(uintptr_t)map->base + at;
    const uint16_t dims[3] = {e->h, e->w, e->c};
    for (unsigned k = 0; k < 3; k++) {
        p[2 * k] = (uint8_t)dims[k];
        p[2 * k + 1] = (uint8_t)(dims[k] >> 8);
    }
    p[t->index.head_nbytes] = (uint8_t)(e->at_n >> 56);
}

/* Whether the header at p is what the index says; bare images have none to differ. */
static int tells(const uint8_t *p, const mapix_table *x, const mapix_entry *e) {
    return !x->head_nbytes ||
           ((p[0] | p[1] << 8) == e->h && (p[2] | p[3] << 8) == e->w &&
            (p[4] | p[5] << 8) == e->c && p[x->head_nbytes] == e->at_n >> 56);
}

/* Whether the first record, the last and some between them have their headers in the file. */
static void check_agrees(const mapix_map *map, const any_index *t, uint64_t count, unsigned fate) {
    const mapix_table *x = &t->index;
    int fd, want = slow_usable(x) && x->head_nbytes && count <= 1024 && count <= x->nrecords;
    const mapix_map file = in_a_file(map, &fate, &fd);
    for (uint64_t k = 0; want && k < count; k++) {
        const uint64_t row = count > 1 ? k * (x->nrecords - 1) / (count - 1) : 0;
        const mapix_entry e = x->entries ? x->entries[row] : x->first;
        const unsigned __int128 at = (e.at_n & ((UINT64_C(1) << 56) - 1)) +
                                     (unsigned __int128)(x->entries ? 0 : row) * x->stride;
        want = at + slow_size(x, &e) <= map->nbytes && tells(map->base + (uint64_t)at, x, &e);
    }
    want = want && fate == NOTHING;
    CHECK(mapix_table_agrees(&file, x, count) == want && close(fd) == 0);
}

static void check_find(input *in) {
    const unsigned truths = take(in);
    any_index t = take_index(in);
    const mapix_map map = rest_as_map(in);
    const mapix_table *x = &t.index;
    const int usable = slow_usable(x);
    for (uint64_t i = 0; i < t.nrows; i++) {
        const uint64_t row = (uint64_t)t.rows[i];
        mapix_entry found = {0};
        mapix_where where = {0};
        int want = !usable ? MAPIX_E_ARGUMENT : row >= x->nrecords ? MAPIX_E_ROW : MAPIX_OK;
        mapix_entry e = {0};
        uint64_t at = 0;
        any_index one = {.index = *x, .rows = &t.rows[i], .nrows = 1};
        if (!want && row <= INT64_MAX && !(want = slow_place(&one, 0, map.nbytes))) {
            e = x->entries ? x->entries[row] : x->first;
            at = (e.at_n & ((UINT64_C(1) << 56) - 1)) + (x->entries ? 0 : row) * x->stride;
            if (truths >> (i & 7) & 1) {
                make_true(&map, &t, at, &e);
            }
            const uint8_t *p = map.base + at;
            const int same = tells(p, x, &e);
            want = !same ? MAPIX_E_STALE : !e.h || !e.w || !e.c ? MAPIX_E_ZERO : MAPIX_OK;
        } else if (row > INT64_MAX && !want) {
            continue; /* the reference counts such rows from the end */
        }
        const mapix_map lost = without_file(&map);
        const int told = want == MAPIX_OK || want == MAPIX_E_ARGUMENT || want == MAPIX_E_ROW;
        CHECK(mapix_table_find(&lost, x, row, &found, &where) == (told ? want : MAPIX_E_CHANGED));
        CHECK(mapix_table_find(&map, x, row, &found, &where) == want);
        CHECK(want || (found.at_n == (at | (e.at_n >> 56) << 56) && found.h == e.h &&
                       found.w == e.w && found.c == e.c && found.reserved == 0));
        CHECK(!want || want == MAPIX_E_ARGUMENT || where.record == row);
    }
    const uint64_t counts[8] = {0, 1, 2, 3, 5, x->nrecords, 1025, t.nrows};
    check_agrees(&map, &t, counts[truths & 7], truths & 8 ? (truths >> 4) % NFATES : NOTHING);
    free_map(&map);
    free_index(&t);
}

/* Checksums and moments of rows of a file, a record and a pixel at a time. */
static void check_scan(input *in) {
    any_index t = take_index(in);
    t.index.interleaved = take(in) & 1;
    const uint32_t nchannels = take(in) & 7;
    const mapix_map map = rest_as_map(in);
    uint32_t *crcs = block(t.nrows * sizeof *crcs);
    mapix_moments *got = block(8 * sizeof *got), want[8];
    memset(want, 0, sizeof want); /* padding, too: they are compared as bytes */
    for (int k = 0; k < 8; k++) {
        got[k] = want[k] = (mapix_moments){.low = 255};
    }
    mapix_where where;
    const int usable = slow_usable(&t.index);
    const int status = mapix_table_checksums(&map, &t.index, t.rows, t.nrows, crcs, &where);
    const int second =
        mapix_table_moments(&map, &t.index, t.rows, t.nrows, nchannels, got, &where);
    int expected = usable ? MAPIX_OK : MAPIX_E_ARGUMENT, moments = expected;
    for (uint64_t i = 0; usable && i < t.nrows && !expected; i++) {
        uint64_t row;
        expected = slow_place(&t, i, map.nbytes);
        if (expected || !slow_row(&t, i, &row)) {
            break;
        }
        const mapix_table *x = &t.index;
        const mapix_entry e = x->entries ? x->entries[row] : x->first;
        const uint64_t at =
            (e.at_n & ((UINT64_C(1) << 56) - 1)) + (x->entries ? 0 : row * x->stride);
        const uint8_t *p = map.base + at;
        const uint64_t size = slow_size(x, &e), image = (uint64_t)e.h * e.w * e.c;
        if (!tells(p, x, &e)) {
            expected = MAPIX_E_STALE;
            break;
        }
        if (!moments && e.c > nchannels) {
            moments = MAPIX_E_ARGUMENT;
        }
        for (uint64_t k = 0; !moments && k < image; k++) {
            const uint8_t v = p[size - image + k];
            mapix_moments *m = &want[x->interleaved ? k % e.c : k / ((uint64_t)e.h * e.w)];
            m->count++;
            m->sum += v;
            m->squares += (uint64_t)v * v;
            m->low = v < m->low ? v : m->low;
            m->high = v > m->high ? v : m->high;
        }
        CHECK(status || crcs[i] == slow_crc(p, size, 0));
    }
    CHECK(status == expected);
    moments = moments ? moments : expected;
    CHECK(second == moments);
    CHECK(second || memcmp(got, want, sizeof want) == 0);
    const mapix_map lost = without_file(&map);
    CHECK(mapix_table_checksums(&lost, &t.index, t.rows, t.nrows, crcs, &where) ==
          (usable ? MAPIX_E_CHANGED : MAPIX_E_ARGUMENT));
    free(crcs);
    free(got);
    free_map(&map);
    free_index(&t);
}

/* One opcode's length at p, or 0. */
static uint64_t slow_memo(const uint8_t *p, const uint8_t *end, uint64_t number) {
    if (p < end && *p == 0x94) {
        return 1;
    }
    if (end - p >= 2 && *p == 'q') {
        return p[1] == number ? 2 : 0;
    }
    if (end - p >= 5 && *p == 'r') {
        uint32_t said;
        memcpy(&said, p + 1, 4);
        return said == number ? 5 : 0;
    }
    return 0;
}

/* Where a row of n numbers that begins at p ends; null if it is not a row. */
static const uint8_t *slow_pickled(const uint8_t *p, const uint8_t *end, uint64_t number, unsigned n,
                                   uint8_t *out) {
    if (p == end || *p++ != ']') {
        return NULL;
    }
    const uint64_t memo = slow_memo(p, end, number);
    p += memo;
    if (!memo || (n > 1 && (p == end || *p++ != '('))) {
        return NULL;
    }
    for (unsigned k = 0; k < n; k++) {
        if (end - p < 2 || p[0] != 'K') {
            return NULL;
        }
        out[k] = p[1];
        p += 2;
    }
    return n == 0 ? p : p < end && *p == (n > 1 ? 'e' : 'a') ? p + 1 : NULL;
}

static void check_pickle(input *in) {
    const unsigned n = take(in) % 5, nrows = take(in) % 20, kind = take(in);
    const uint64_t memo = take_n(in, 2), skip = take(in) & 1;
    uint8_t room[1024];
    draft d = {.bytes = room, .room = sizeof room};
    for (uint64_t r = 0; r < 24 && in->left && !(kind & 1); r++) { /* mostly rows as they are written */
        const unsigned flaw = take(in);
        put(&d, flaw == 255 ? '[' : ']');
        put(&d, kind & 2 ? 'q' : kind & 4 ? 'r' : 0x94);
        if (kind & 6) {
            put(&d, (memo + r) & 255);
        }
        if ((kind & 6) == 4) {
            put(&d, (memo + r) >> 8);
            put(&d, 0);
            put(&d, flaw == 254);
        }
        const unsigned m = flaw == 253 ? n + 1 : n;
        if (m > 1) {
            put(&d, '(');
        }
        for (unsigned k = 0; k < m; k++) {
            put(&d, flaw == 252 ? 'M' : 'K');
            put(&d, take(in));
        }
        if (m) {
            put(&d, m > 1 ? 'e' : 'a');
        }
    }
    while (in->left && d.nbytes < d.room) {
        put(&d, take(in));
    }
    uint8_t *bytes = block(d.nbytes), *out = block((uint64_t)nrows * n), slow[8];
    memcpy(bytes, d.bytes, d.nbytes);
    const mapix_map map = {.base = bytes, .nbytes = d.nbytes, .fd = -1};
    mapix_pickle_run run;
    CHECK(mapix_pickle_rows(&map, skip, memo, n, out, nrows, &run) == MAPIX_OK);
    const uint8_t *p = bytes + (skip < d.nbytes ? skip : d.nbytes), *end = bytes + d.nbytes;
    uint64_t found = 0;
    while (found < nrows) {
        const uint8_t *next = slow_pickled(p, end, memo + found, n, slow);
        if (!next) {
            break;
        }
        CHECK(found < run.nrows && memcmp(slow, out + found * n, n) == 0);
        found++;
        p = next;
    }
    CHECK(run.nrows == found);
    CHECK(found == 0 ? run.at == skip : run.at == (uint64_t)(p - bytes));
    free(bytes);
    free(out);
}

/* A file that is cut, written to, or whose descriptor or path is gone, while it is mapped. */
static void check_change(input *in) {
    const unsigned what = take(in) & 7, npages = 1 + (take(in) & 3);
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), nbytes = npages * page;
    const uint64_t at = take_n(in, 2) % nbytes, length = take_n(in, 2) % (nbytes - at + 1);
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    struct stat s;
    CHECK(fd >= 0 && ftruncate(fd, (off_t)nbytes) == 0 && fstat(fd, &s) == 0);
    uint8_t *base = mmap(NULL, nbytes, PROT_READ, MAP_SHARED, fd, 0), *to = block(length);
    CHECK(base != MAP_FAILED);
    const int64_t second = 1000000000;
    mapix_map map = {.base = base, .nbytes = nbytes, .fd = fd, .size = nbytes};
    map.dev = s.st_dev;
    map.ino = s.st_ino + (what == 0 && length % 2); /* a descriptor that is another file's by now */
    char path[64];
    CHECK(snprintf(path, sizeof path, "/proc/self/fd/%d%s", fd, what == 7 ? "/gone" : "") > 0);
    map.path = path;
    map.mtime_ns = s.st_mtim.tv_sec * second + s.st_mtim.tv_nsec - (what == 1);
    map.ctime_ns = s.st_ctim.tv_sec * second + s.st_ctim.tv_nsec - (what == 2);
    if (what == 3 || what == 4) { /* 4: the file is not checked, its pages fault */
        CHECK(ftruncate(fd, (off_t)(nbytes - page)) == 0);
        map.fd = what == 3 ? fd : -1;
    } else if (what == 5) {
        map.fd = 1 << 30; /* closed */
    } else if (what > 5) {
        map.fd = MAPIX_BY_PATH;
    }
    const int lost = what == 4 && length && at + length > nbytes - page;
    const int want = (what == 0 && map.ino == s.st_ino) || what == 6 ? MAPIX_OK
                     : what == 4 ? (lost ? MAPIX_E_FAULT : MAPIX_OK)
                                 : MAPIX_E_CHANGED;
    const uint64_t caught = mapix_faults_caught();
    mapix_where where;
    CHECK(mapix_copy(&map, at, length, to, &where) == (length ? want : MAPIX_OK));
    CHECK(!lost || mapix_faults_caught() == caught + 1);
    CHECK(mapix_map_check(&map) == (what == 4 ? MAPIX_OK : want));
    CHECK(munmap(base, nbytes) == 0 && close(fd) == 0);
    free(to);
}

/* Rows of numbers that may lie anywhere: in bounds by arithmetic of 128 bits, copied byte by byte. */
static void check_rows(input *in) {
    enum { MOST = 64 };
    static const uint32_t sizes[8] = {1, 2, 4, 8, 1, 2, 0, 3};
    const uint8_t how = take(in);
    const uint32_t swap = sizes[how & 7];
    const uint64_t unit = how & 8 ? 1 : swap;
    input after = *in;
    for (int i = 0; i < 9 + 9 + 9 + 1 + 2 * 8 + 1; i++) {
        (void)take(&after);
    }
    const mapix_map map = rest_as_map(&after);
    const uint64_t at = take_offset(in, map.nbytes) & (UINT64_MAX >> 8);
    const uint64_t row_nbytes = take_offset(in, map.nbytes) * unit;
    const mapix_table table = {.nrecords = take_offset(in, map.nbytes), .stride = row_nbytes, .first = {.at_n = at}};
    const uint64_t n = take(in) % (MOST + 1), nrows = table.nrecords;
    int64_t rows[MOST];
    uint64_t bad = n, outside = n; /* positions of the first row that is out of range, or not in the file */
    for (uint64_t i = 0; i < n; i++) {
        rows[i] = i < 8 ? (int16_t)take_n(in, 2) : rows[i - 8]; /* enough of them for two parts */
        const int inside = rows[i] < 0 ? (uint64_t)-rows[i] <= nrows : (uint64_t)rows[i] < nrows;
        const uint64_t row = rows[i] < 0 ? nrows - (uint64_t)-rows[i] : (uint64_t)rows[i];
        const int spans = ((__uint128_t)row + 1) * row_nbytes + at > map.nbytes;
        bad = bad == n && !inside ? i : bad;
        outside = outside == n && inside && spans ? i : outside;
    }
    const uint64_t first = bad < outside ? bad : outside;
    const int usable = !nrows || row_nbytes;
    const uint64_t room = (__uint128_t)row_nbytes * n > 1 << 20 ? 0 : n * row_nbytes;
    const int runs = usable && swap && swap != 3 && row_nbytes % swap == 0 && (room || !row_nbytes);
    const int want = n == 0      ? MAPIX_OK
                     : !runs     ? MAPIX_E_ARGUMENT
                     : first == n ? MAPIX_OK
                     : first == bad ? MAPIX_E_ROW : MAPIX_E_SPAN;
    uint8_t *to = block(room + 1);
    mapix_where where = {0, 0, 0, 0};
    const int level = mapix_simd(take(in) % 3);
    CHECK(level < 3);
    mapix_gather g = {.images = to, .images_nbytes = room, .swap = swap ? swap : 5, .nthreads = 1 + (how >> 4) % 3};
    const int status = mapix_table_gather(&map, &table, rows, n, &g, &where);
    CHECK(status == want);
    CHECK(status != MAPIX_E_ROW || (where.record == bad && where.expected == nrows));
    CHECK(status != MAPIX_E_SPAN || (where.expected == row_nbytes && where.got < row_nbytes));
    for (uint64_t i = 0; i < n && !status; i++) {
        const uint64_t row = rows[i] < 0 ? nrows - (uint64_t)-rows[i] : (uint64_t)rows[i];
        const uint8_t *from = map.base + at + row * row_nbytes;
        for (uint64_t k = 0; k < row_nbytes; k++) {
            CHECK(to[i * row_nbytes + k] == from[k / swap * swap + swap - 1 - k % swap]);
        }
    }
    const mapix_map lost = without_file(&map);
    g.nthreads = 1;
    CHECK(mapix_table_gather(&lost, &table, rows, n, &g, &where) ==
          (n && runs ? MAPIX_E_CHANGED : want));
    uint64_t nasked = 99;
    const int asked = mapix_table_willneed(&map, &table, rows, n, how >> 6, &nasked, &where);
    if (!usable) {
        CHECK(asked == MAPIX_E_ARGUMENT && nasked == 0);
    } else if (first == n) {
        CHECK(asked == MAPIX_OK && nasked == (how >> 6 ? nasked : n) && nasked <= n);
    } else { /* with a probe a bad row may stay unseen */
        const int reason = first == bad ? MAPIX_E_ROW : MAPIX_E_SPAN;
        CHECK(how >> 6 ? nasked <= first : asked == reason && nasked == 0);
    }
    free(to);
    free_map(&map);
}

/* A table in a file of its own, which is cut: every function that reads it reports that. */
static void check_lost_table(input *in) {
    const unsigned what = take(in) % 5;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), each = page / sizeof(mapix_entry);
    const int64_t rows[2] = {0, (int64_t)(each + take(in) % each)}; /* the second page is lost */
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)(2 * page)) == 0);
    mapix_entry *entries = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(entries != MAP_FAILED);
    for (uint64_t i = 0; i < 2 * each; i++) {
        entries[i] = (mapix_entry){0, 1, 1, 1, 0};
    }
    const uint8_t file[8] = {1, 0, 1, 0, 1, 0, 0, 77};
    const mapix_map map = {.base = file, .nbytes = sizeof file, .fd = -1};
    const mapix_table index = {.nrecords = 2 * each, .entries = entries, .head_nbytes = 6};
    CHECK(ftruncate(fd, (off_t)page) == 0);
    uint8_t pixels[2];
    uint32_t crcs[2];
    uint64_t extent[7], nasked;
    mapix_entry found;
    mapix_where where = {0};
    const mapix_gather gather = {.images = pixels, .images_nbytes = 2, .h = 1, .w = 1, .c = 1};
    int status = MAPIX_OK;
    switch (what) {
    case 0: status = mapix_table_find(&map, &index, (uint64_t)rows[1], &found, &where); break;
    case 1: status = mapix_table_extent(map.nbytes, &index, rows, 2, extent, NULL, &where); break;
    case 2: status = mapix_table_willneed(&map, &index, rows, 2, 0, &nasked, &where); break;
    case 3: status = mapix_table_checksums(&map, &index, rows, 2, crcs, &where); break;
    default: status = mapix_table_gather(&map, &index, rows, 2, &gather, &where); break;
    }
    CHECK(status == MAPIX_E_FAULT);
    CHECK(munmap(entries, 2 * page) == 0 && close(fd) == 0);
}

/* Positions of a permutation: each number below n once, the same in one call and in two. */
static void check_permute(input *in) {
    enum { MOST = 600 };
    const uint64_t key = take_n(in, 8);
    const unsigned kind = take(in);
    const uint64_t n = kind & 1 ? take_n(in, 8) : take_n(in, 2) % MOST;
    const uint64_t begin = kind & 2 ? take_n(in, 8) : take_n(in, 2) % (n % MOST + 1);
    const uint64_t count = kind & 4 ? take_n(in, 8) : take(in);
    const int fits = n <= INT64_MAX / 2 && begin <= n && count <= n - begin;
    int64_t *some = block((fits && count < MOST ? count : 0) * sizeof *some);
    uint32_t network[MAPIX_NETWORK];
    CHECK(mapix_permute_network(n, key, network) == (n <= INT64_MAX / 2 ? MAPIX_OK : MAPIX_E_ARGUMENT));
    if (!fits) {
        CHECK(mapix_permute(n, key, begin, count, some) == MAPIX_E_ARGUMENT);
        CHECK(n <= INT64_MAX / 2 || mapix_permute_at(n, key, 0, some) == MAPIX_E_ARGUMENT);
    } else if (count < MOST) {
        CHECK(mapix_permute(n, key, begin, count, some) == MAPIX_OK);
        for (uint64_t i = 0; i < count; i++) {
            CHECK(some[i] >= 0 && (uint64_t)some[i] < n);
        }
    }
    if (fits && n < MOST) {
        int64_t *all = block(n * sizeof *all);
        uint8_t seen[MOST] = {0};
        CHECK(mapix_permute(n, key, 0, n, all) == MAPIX_OK);
        for (uint64_t i = 0; i < n; i++) {
            CHECK(all[i] >= 0 && (uint64_t)all[i] < n && !seen[all[i]]++);
        }
        CHECK(count == 0 || memcmp(some, all + begin, count * sizeof *all) == 0);
        int64_t *at = block(n * sizeof *at);
        for (uint64_t i = 0; i < n; i++) {
            at[i] = (int64_t)(n - 1 - i);
        }
        CHECK(mapix_permute_at(n, key, n, at) == MAPIX_OK);
        for (uint64_t i = 0; i < n; i++) {
            CHECK(at[i] == all[n - 1 - i]);
        }
        if (n) {
            at[n - 1] = kind & 1 ? (int64_t)n : -1;
            CHECK(mapix_permute_at(n, key, n, at) == MAPIX_E_ARGUMENT);
        }
        free(at);
        free(all);
    }
    free(some);
}

/* A file put into the place of memory: its bytes, and the memory as it was where that fails. */
static void check_map_file(input *in) {
    const int shared = take(in) & 1, broken = take(in) & 1;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), nbytes = 1 + take_n(in, 2) % (2 * page);
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    uint8_t *at = mmap(NULL, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(fd >= 0 && at != MAP_FAILED && ftruncate(fd, (off_t)nbytes) == 0);
    CHECK(pwrite(fd, "x", 1, (off_t)nbytes - 1) == 1);
    const int status = mapix_map_file(at, nbytes, broken ? 1 << 30 : fd, 0, shared);
    CHECK(status == (broken ? MAPIX_E_SYSTEM : MAPIX_OK));
    CHECK(at[nbytes - 1] == (broken ? 0 : 'x'));
    CHECK(munmap(at, 2 * page) == 0 && close(fd) == 0);
}

/* A page that is not ours, whose fault another handler repairs. */
static uint8_t *foreign_page;
static volatile sig_atomic_t nmended;

static void mend(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    nmended++;
    if (mmap(foreign_page, page, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
        MAP_FAILED) {
        abort();
    }
}

static void on_bus_plain(int sig) {
    (void)sig;
    mend();
}

static void on_bus_told(int sig, siginfo_t *info, void *context) {
    (void)sig;
    (void)context;
    if (info->si_code > 0) {
        mend();
    } else {
        nmended++;
    }
}

/* Handlers that are not ours, put there before or after our first call: a fault outside the map is
 * theirs, and so is a signal that is sent. */
static void check_foreign(input *in) {
    const unsigned what = take(in) % 4, times = 1 + take(in) % 3;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct sigaction before, theirs;
    CHECK(sigaction(SIGBUS, NULL, &before) == 0);
    memset(&theirs, 0, sizeof theirs);
    theirs.sa_flags = what == 0 ? SA_SIGINFO : 0;
    if (what == 0) {
        theirs.sa_sigaction = on_bus_told;
    } else {
        theirs.sa_handler = what == 1 ? on_bus_plain : SIG_IGN;
    }
    const uint8_t text[8] = {0};
    const mapix_map map = {.base = text, .nbytes = sizeof text, .fd = -1};
    uint8_t to[8];
    mapix_where where;
    for (unsigned k = 0; k < times; k++) {
        CHECK(sigaction(SIGBUS, &theirs, NULL) == 0);
        CHECK(mapix_copy(&map, 0, sizeof text, to, &where) == MAPIX_OK);
        nmended = 0;
        if (what < 2) {
            static unsigned turn; /* a fault that comes at one address for ever ends the process */
            const int fd = memfd_create("fuzz", MFD_CLOEXEC);
            uint8_t *two = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, fd, 0);
            CHECK(fd >= 0 && two != MAP_FAILED);
            foreign_page = two + (turn++ & 1) * page;
            CHECK(*(volatile uint8_t *)foreign_page == 0 && nmended == 1);
            CHECK(munmap(two, 2 * page) == 0 && close(fd) == 0);
        }
        if (what == 0 || what > 1) {
            CHECK(raise(SIGBUS) == 0 && nmended == 2 * (what == 0));
        }
    }
    CHECK(sigaction(SIGBUS, &before, NULL) == 0);
}

/* A page that can be written to until it is protected again; memory that is not there cannot be protected. */
static void check_protect(input *in) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uint8_t value = take(in);
    uint8_t *at = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED && mapix_protect(at, page, 1) == MAPIX_OK);
    at[page - 1] = value;
    CHECK(mapix_protect(at, page, 0) == MAPIX_OK && at[page - 1] == value);
    CHECK(munmap(at, page) == 0 && mapix_protect(at, page, 0) == MAPIX_E_SYSTEM);
}

/* A map of which pages may be absent, as of remote objects: a fault gives the address, and nothing else counts. */
static void check_absent(input *in) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uint64_t at = take_n(in, 2) % page, nbytes = 1 + take_n(in, 2) % (2 * page - at);
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)page) == 0);
    uint8_t *base = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, fd, 0);
    uint8_t *to = block(nbytes);
    uint64_t fault = 0;
    mapix_map map = {.base = base, .nbytes = 2 * page, .fd = 1 << 30, .fault = &fault};
    mapix_where where;
    const int status = mapix_copy(&map, at, nbytes, to, &where), absent = at + nbytes > page;
    CHECK(status == (absent ? MAPIX_E_CHANGED : MAPIX_OK));
    CHECK(absent ? fault >= (uint64_t)(uintptr_t)base + page && fault < (uint64_t)(uintptr_t)base + 2 * page : !fault);
    CHECK(mapix_map_check(&map) == status);
    free(to);
    CHECK(munmap(base, 2 * page) == 0 && close(fd) == 0);
}

enum { SLOT_NBYTES = 1024, PREFIX_NBYTES = 16, FIELDS_NBYTES = 306, TEXTS_AT = 40, OPTIONS_AT = 56 };

/* Make a slot of a stored index valid, as far as its checksum and its texts go. */
static void mend_slot(uint8_t *slot, int texts) {
    const uint32_t version = 5;
    uint8_t *fields = slot + PREFIX_NBYTES;
    if (texts) {
        memset(fields + TEXTS_AT, 0, 144);
        memcpy(fields + TEXTS_AT, "vimh", 4);
        memcpy(fields + OPTIONS_AT, "key", 3);
    }
    const uint32_t crc = mapix_crc32c(fields, FIELDS_NBYTES, 0);
    memcpy(slot, "MAPIXIDX", 8);
    memcpy(slot + 8, &version, sizeof version);
    memcpy(slot + 12, &crc, sizeof crc);
}

/* The header of a stored index: all that is stated by one that is accepted lies in the index and in the file. */
static void check_index(input *in) {
    const uint8_t how = take(in);
    const uint64_t nbytes = take_n(in, how & 1 ? 8 : 4), file_nbytes = take_n(in, how & 2 ? 8 : 4);
    const size_t left = in->left;
    uint8_t *head = block(left);
    memcpy(head, in->next, left);
    for (size_t k = 0; k < 2; k++) {
        if (left >= k * SLOT_NBYTES + PREFIX_NBYTES + FIELDS_NBYTES && !(how & 4 << k)) {
            mend_slot(head + k * SLOT_NBYTES, !(how & 16));
        }
    }
    mapix_index found;
    const int status = mapix_index_read(head, left, nbytes, "key", file_nbytes, &found);
    CHECK(status == MAPIX_OK || status == MAPIX_E_ARGUMENT);
    if (status == MAPIX_OK) {
        CHECK(found.covered <= file_nbytes && found.slot < 2 && (found.head_nbytes == 6 || found.head_nbytes == 14));
        const int order[] = {MAPIX_INDEX_LABELS, MAPIX_INDEX_CHECKSUMS, MAPIX_INDEX_MOMENTS, MAPIX_INDEX_ENTRIES};
        uint64_t end = 4096;
        for (int k = found.has ? 0 : 3; k < 4; k++) {
            const uint64_t at = found.tables_at[order[k]], size = found.tables_nbytes[order[k]];
            CHECK(at >= end && at <= nbytes && size <= nbytes - at);
            end = at + size;
        }
        CHECK(!found.stride || (found.covered == found.nrecords * found.stride && !found.tables_nbytes[MAPIX_INDEX_ENTRIES]));
        CHECK(found.stride || found.tables_nbytes[MAPIX_INDEX_ENTRIES] == 16 * found.nrecords);
    }
    free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    input in = {data, nbytes};
    const uint8_t kind = take(&in);
    if (kind == UINT8_MAX) {
        check_index(&in);
        return 0;
    }
    switch (kind % 15) {
    case 0: check_copy(&in); break;
    case 1: check_crc(&in); break;
    case 2: check_extent(&in); break;
    case 3: check_willneed(&in); break;
    case 4: check_change(&in); break;
    case 5: check_find(&in); break;
    case 6: check_scan(&in); break;
    case 7: check_pickle(&in); break;
    case 8: check_rows(&in); break;
    case 9: check_foreign(&in); break;
    case 10: check_lost_table(&in); break;
    case 11: check_permute(&in); break;
    case 12: check_map_file(&in); break;
    case 13: check_protect(&in); break;
    default: check_absent(&in); break;
    }
    return 0;
}
