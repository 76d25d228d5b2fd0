/* vimh_find.c - one record by its number, confirmed: for who wants to look at it in place. */
#include "vimh_locate.h"

typedef struct {
    const mapix_map *map;
    const mapix_vimh_index *index;
    uint64_t row;
    mapix_entry *found;
    mapix_where where;
} find_job;

static int find(void *arg) {
    find_job *job = arg;
    located r;
    int status = locate(job->index, job->map->nbytes, job->row, &r, &job->where);
    if (!status) {
        job->where.at = r.at; /* for a fault */
        status = confirm(job->map, job->index->head_nbytes, job->row, &r, &job->where);
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

int mapix_vimh_find(const mapix_map *map, const mapix_vimh_index *index, uint64_t row,
                    mapix_entry *found, mapix_where *where) {
    if (!index_usable(index)) {
        return MAPIX_E_ARGUMENT;
    }
    find_job job = {.map = map, .index = index, .row = row, .found = found};
    job.where.record = row;
    if (row >= index->nrecords) {
        job.where.expected = index->nrecords;
        job.where.got = row;
        *where = job.where;
        return MAPIX_E_ROW;
    }
    const int status = with_index(map, index, find, &job);
    if (!status || status == MAPIX_E_SYSTEM) {
        return status;
    }
    *where = job.where;
    /* Whatever was found, a file that moved is the better explanation of it. */
    const int moved = mapix_map_check(map);
    return moved ? moved : status;
}
