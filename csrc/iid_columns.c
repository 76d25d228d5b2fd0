/* iid_columns.c - the lookup table of an archive, swept: proven rows, boxes and areas. */
#include "iid.h"

enum { ROWS_AHEAD = 16 };

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    uint64_t first, n, totals[3];
    uint16_t *boxes;
    uint32_t *areas;
    mapix_where where;
} columns_job;

static int sweep(void *arg) {
    columns_job *job = arg;
    const mapix_iid *iid = job->iid;
    for (uint64_t i = 0; i < job->n; i++) {
        const uint64_t key = job->first + i;
        *(volatile uint64_t *)&job->where.record = key; /* for a fault */
        const iid_row row = iid_row_of(job->map, iid, key);
        int status = iid_check_row(iid, &row, key, &job->where);
        if (status) {
            return status;
        }
        job->totals[1] += row.name_nbytes;
        job->totals[2] += row.segment_nbytes;
        if (!job->boxes) {
            continue;
        }
        if (i + ROWS_AHEAD < job->n) {
            const iid_row later = iid_row_of(job->map, iid, key + ROWS_AHEAD);
            if (later.segment_at < iid->segs_nbytes) {
                __builtin_prefetch(job->map->base + iid->segs_at + later.segment_at, 0, 3);
            }
        }
        iid_segment s;
        status = iid_segment_of(job->map, iid, key, &s, &job->where);
        if (status) {
            return status;
        }
        memcpy(job->boxes + 4 * i, s.box, 8);
        job->areas[i] = s.area;
        job->totals[0] += (uint64_t)s.swapped;
    }
    return MAPIX_OK;
}

int mapix_iid_columns(const mapix_map *map, const mapix_iid *iid, uint64_t first, uint64_t n,
                      uint16_t *boxes, uint32_t *areas, uint64_t *totals, mapix_where *where) {
    if (!iid_usable(map, iid) || first > iid->nsegments || n > iid->nsegments - first ||
        (boxes && !areas)) {
        return MAPIX_E_ARGUMENT;
    }
    columns_job job = {
        .map = map, .iid = iid, .first = first, .n = n, .boxes = boxes, .areas = areas};
    iid_prefetch_row(map, iid, first); /* under way while the guard is entered */
    const int status = mapix_guarded_checked(map, sweep, &job);
    memcpy(totals, job.totals, sizeof job.totals);
    *where = job.where;
    return status;
}
