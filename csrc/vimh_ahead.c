/* vimh_ahead.c - what is asked about a batch before it is gathered: how large it gets, and whether
 * the kernel has it in memory. */
#include "pages.h"
#include "vimh_locate.h"

typedef struct {
    const mapix_map *map;
    const mapix_vimh_index *index;
    const int64_t *rows;
    uint64_t nrows, nasked;
    uint32_t probe;
    mapix_where where;
} willneed_job;

/* Whether some of `probe` records, evenly spread, are not in memory: 1 or 0 in *cold. */
static int look_for_cold(willneed_job *job, int *cold) {
    const uint64_t step = job->probe < job->nrows ? job->nrows / job->probe : 1;
    *cold = 0;
    for (uint64_t i = 0; i < job->nrows && !*cold; i += step) {
        located r;
        const int status = locate_row(job->map->nbytes, job->index, job->rows, i, &r, &job->where);
        if (status) {
            return status;
        }
        /* the last page of a record stands for all of it */
        *cold = !mapix_resident(job->map, r.at + r.size - 1);
    }
    return MAPIX_OK;
}

static int ask_for_rows(void *arg) {
    willneed_job *job = arg;
    int cold = 1;
    const int looked = job->probe ? look_for_cold(job, &cold) : MAPIX_OK;
    if (looked || !cold) {
        return looked;
    }
    for (uint64_t i = 0; i < job->nrows; i++) {
        located r;
        const int status = locate_row(job->map->nbytes, job->index, job->rows, i, &r, &job->where);
        if (status) {
            return status;
        }
        mapix_willneed(job->map, r.at, r.size);
        ++job->nasked;
    }
    return MAPIX_OK;
}

int mapix_vimh_willneed(const mapix_map *map, const mapix_vimh_index *index, const int64_t *rows,
                        uint64_t nrows, uint32_t probe, uint64_t *nasked, mapix_where *where) {
    willneed_job job = {
        .map = map, .index = index, .rows = rows, .nrows = nrows, .probe = probe};
    *nasked = 0;
    if (!index_usable(index)) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = with_index(map, index, ask_for_rows, &job);
    *nasked = job.nasked;
    if (status) {
        *where = job.where;
    }
    return status;
}

typedef struct {
    uint64_t nbytes; /* of the file */
    const mapix_vimh_index *index;
    const int64_t *rows;
    uint64_t nrows;
    uint64_t *extent, *flat_at;
    mapix_where where;
} extent_job;

static int extent_of_rows(void *arg) {
    extent_job *job = arg;
    uint64_t most[3] = {0, 0, 0}, least[3] = {UINT64_MAX, UINT64_MAX, UINT64_MAX}, sum = 0;
    for (uint64_t i = 0; i < job->nrows; i++) {
        located r;
        prefetch_entry(job->index, job->rows, i + ENTRIES_AHEAD, job->nrows);
        const int status = locate_row(job->nbytes, job->index, job->rows, i, &r, &job->where);
        if (status) {
            return status;
        }
        const uint64_t dims[3] = {r.header.h, r.header.w, r.header.c};
        for (int k = 0; k < 3; k++) {
            most[k] = dims[k] > most[k] ? dims[k] : most[k];
            least[k] = dims[k] < least[k] ? dims[k] : least[k];
        }
        if (job->flat_at) {
            job->flat_at[i] = sum;
        }
        sum += dims[0] * dims[1] * dims[2]; /* may wrap where no memory is large enough */
    }
    memcpy(job->extent, most, sizeof most);
    memcpy(job->extent + 3, least, sizeof least);
    job->extent[6] = sum;
    if (job->flat_at) {
        job->flat_at[job->nrows] = sum;
    }
    return MAPIX_OK;
}

int mapix_vimh_extent(uint64_t nbytes, const mapix_vimh_index *index, const int64_t *rows,
                      uint64_t nrows, uint64_t *extent, uint64_t *flat_at, mapix_where *where) {
    const mapix_map no_map = {.fd = -1};
    extent_job job = {.nbytes = nbytes, .index = index, .rows = rows, .nrows = nrows};
    job.extent = extent;
    job.flat_at = flat_at;
    if (!index_usable(index)) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = index->entries ? with_index(&no_map, index, extent_of_rows, &job)
                                      : extent_of_rows(&job);
    if (status) {
        *where = job.where;
    }
    return status;
}
