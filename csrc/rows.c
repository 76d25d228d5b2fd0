/* rows.c - rows of one array of numbers into a batch, their bytes turned round on the way. */
#include "guard.h"
#include "pages.h"
#include "pool.h"
#include "vimh.h"

#include <errno.h>
#include <string.h>

/* n bytes, a multiple of the number's size, from `from` to `to`. */
typedef void (*turn_fn)(uint8_t *to, const uint8_t *from, uint64_t n);

static void turn_none(uint8_t *to, const uint8_t *from, uint64_t n) {
    memcpy(to, from, n);
}

/* memcpy: neither side is aligned, and a compiler makes a load of it. */
#define TURN(name, type, swap)                                                                     \
    static void name(uint8_t *to, const uint8_t *from, uint64_t n) {                               \
        for (uint64_t i = 0; i < n; i += sizeof(type)) {                                           \
            type x;                                                                                \
            memcpy(&x, from + i, sizeof x);                                                        \
            x = swap(x);                                                                           \
            memcpy(to + i, &x, sizeof x);                                                          \
        }                                                                                          \
    }
TURN(turn_2, uint16_t, __builtin_bswap16)
TURN(turn_4, uint32_t, __builtin_bswap32)
TURN(turn_8, uint64_t, __builtin_bswap64)

static const turn_fn plain[4] = {turn_none, turn_2, turn_4, turn_8};

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* 128 bytes a turn: one shuffle of bytes within each half of a vector. */
#define TURN_AVX2(name, rest, ...)                                                                 \
    __attribute__((target("avx2"))) static void name(uint8_t *to, const uint8_t *from,             \
                                                     uint64_t n) {                                 \
        const __m256i order = _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__));             \
        uint64_t i = 0;                                                                            \
        for (; n - i >= 128; i += 128) {                                                           \
            for (unsigned k = 0; k < 128; k += 32) {                                               \
                const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(from + i + k)); \
                _mm256_storeu_si256((__m256i *)(void *)(to + i + k),                               \
                                    _mm256_shuffle_epi8(x, order));                                \
            }                                                                                      \
        }                                                                                          \
        rest(to + i, from + i, n - i);                                                             \
    }
TURN_AVX2(turn_2_avx2, turn_2, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
TURN_AVX2(turn_4_avx2, turn_4, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12)
TURN_AVX2(turn_8_avx2, turn_8, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8)

static const turn_fn avx2[4] = {turn_none, turn_2_avx2, turn_4_avx2, turn_8_avx2};

static turn_fn chosen(unsigned kind) {
    return (mapix_simd(-1) >= 1 ? avx2 : plain)[kind];
}
#else
static turn_fn chosen(unsigned kind) {
    return plain[kind];
}
#endif

typedef struct {
    const mapix_map *map;
    const mapix_array *array;
    const int64_t *rows;
    uint64_t nrows;
    uint8_t *to;
    turn_fn turn;
    unsigned nparts;
    int status[MAPIX_MAX_PARTS];
    int error[MAPIX_MAX_PARTS];
    mapix_where where[MAPIX_MAX_PARTS];
} rows_job;

/* Whether all rows lie within the map, none of them empty. */
static int in_bounds(const mapix_map *map, const mapix_array *a, mapix_where *where) {
    const uint64_t left = a->at > map->nbytes ? 0 : map->nbytes - a->at;
    if (a->row_nbytes == 0) {
        return MAPIX_E_ARGUMENT;
    }
    if (a->at <= map->nbytes && a->nrows <= left / a->row_nbytes) {
        return MAPIX_OK;
    }
    uint64_t all;
    if (__builtin_mul_overflow(a->nrows, a->row_nbytes, &all)) {
        all = UINT64_MAX;
    }
    *where = (mapix_where){.record = 0, .at = a->at, .expected = all, .got = left};
    return MAPIX_E_SPAN;
}

/* Row rows[i], negative ones counted from the end, as a place in the map; null, and where, when
 * there is none. */
static const uint8_t *row_at(const rows_job *job, uint64_t i, mapix_where *where) {
    const mapix_array *a = job->array;
    const int64_t given = job->rows[i];
    const uint64_t row = given < 0 ? (uint64_t)given + a->nrows : (uint64_t)given;
    if (MAPIX_UNLIKELY(row >= a->nrows)) {
        *where = (mapix_where){.record = i, .at = 0, .expected = a->nrows, .got = (uint64_t)given};
        return NULL;
    }
    return job->map->base + a->at + row * a->row_nbytes;
}

__attribute__((always_inline)) static inline void prefetch_row(const rows_job *job, uint64_t i) {
    mapix_where ignored;
    const uint8_t *p = row_at(job, i, &ignored);
    if (p) {
        prefetch_beginning(p, job->array->row_nbytes);
    }
}

typedef struct {
    rows_job *job;
    unsigned part;
} rows_part;

static int copy_rows(void *arg) {
    const rows_part *mine = arg;
    rows_job *job = mine->job;
    const uint64_t size = job->array->row_nbytes;
    const uint64_t lo = mapix_part_begin(job->nrows, job->nparts, mine->part);
    const uint64_t hi = mapix_part_begin(job->nrows, job->nparts, mine->part + 1);
    mapix_where *where = &job->where[mine->part];
    for (uint64_t i = lo; i < hi && i < lo + RECORDS_AHEAD; i++) {
        prefetch_row(job, i);
    }
    for (uint64_t i = lo; i < hi; i++) {
        if (i + RECORDS_AHEAD < hi) {
            prefetch_row(job, i + RECORDS_AHEAD);
        }
        const uint8_t *from = row_at(job, i, where);
        if (MAPIX_UNLIKELY(!from)) {
            return MAPIX_E_ROW;
        }
        /* for a fault, which cannot say where it was */
        const uint64_t at = (uint64_t)(from - job->map->base);
        *(volatile uint64_t *)&where->record = (at - job->array->at) / size;
        *(volatile uint64_t *)&where->at = at;
        job->turn(job->to + i * size, from, size);
    }
    return MAPIX_OK;
}

static void run_part(void *arg, unsigned part) {
    rows_job *job = arg;
    rows_part mine = {job, part};
    job->status[part] = mapix_guarded(job->map, NULL, copy_rows, &mine);
    job->error[part] = errno; /* this thread's: a helper's would be lost */
}

int mapix_rows_gather(const mapix_map *map, const mapix_array *array, const int64_t *rows,
                      uint64_t nrows, void *to, uint32_t nthreads, mapix_where *where) {
    rows_job job = {.map = map, .array = array, .rows = rows, .nrows = nrows, .to = to};
    const uint32_t swap = array->swap;
    const unsigned kind = swap == 1 ? 0 : swap == 2 ? 1 : swap == 4 ? 2 : swap == 8 ? 3 : 4;
    if (nrows == 0) {
        return MAPIX_OK;
    }
    const int bounded = in_bounds(map, array, where);
    if (kind > 3 || bounded || array->row_nbytes % swap) {
        return kind > 3 ? MAPIX_E_ARGUMENT : bounded ? bounded : MAPIX_E_ARGUMENT;
    }
    job.turn = chosen(kind);
    const unsigned threads = nthreads < MAPIX_POOL_MAX ? nthreads : MAPIX_POOL_MAX;
    job.nparts = mapix_parts_of(nrows, threads);
    mapix_pool_run(run_part, &job, job.nparts, threads);
    int status = MAPIX_OK;
    for (unsigned part = 0; part < job.nparts && !status; part++) {
        status = job.status[part];
        if (status) {
            *where = job.where[part];
            errno = job.error[part];
        }
    }
    const int moved = status == MAPIX_E_SYSTEM ? MAPIX_OK : mapix_map_check(map);
    return moved ? moved : status;
}

int mapix_rows_willneed(const mapix_map *map, const mapix_array *array, const int64_t *rows,
                        uint64_t nrows, uint32_t probe, uint64_t *nasked, mapix_where *where) {
    const rows_job job = {.map = map, .array = array, .rows = rows};
    *nasked = 0;
    if (nrows == 0) {
        return MAPIX_OK;
    }
    const int bounded = in_bounds(map, array, where);
    if (bounded) {
        return bounded;
    }
    const uint64_t step = probe && probe < nrows ? nrows / probe : 1;
    int cold = !probe;
    for (uint64_t i = 0; i < nrows && !cold; i += step) {
        const uint8_t *p = row_at(&job, i, where);
        if (!p) {
            return MAPIX_E_ROW;
        }
        /* the last page of a row stands for all of it */
        cold = !mapix_resident(map, (uint64_t)(p - map->base) + array->row_nbytes - 1);
    }
    for (uint64_t i = 0; i < nrows && cold; i++) {
        const uint8_t *p = row_at(&job, i, where);
        if (!p) {
            return MAPIX_E_ROW;
        }
        mapix_willneed(map, (uint64_t)(p - map->base), array->row_nbytes);
        ++*nasked;
    }
    return MAPIX_OK;
}
