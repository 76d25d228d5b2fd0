/* iid_hits.c - which segments have a pixel in a window: a tree over regions, and their bits. */
#include "iid.h"
#include "tree.h"

enum { GROUP = 64, MOST_AHEAD = 256, KEYS_AHEAD = 8 };

/* --- the regions of all segments ---------------------------------------------------------------- */

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    uint64_t key, end;
    uint16_t *boxes;
    uint64_t *leaves;
    uint64_t capacity, n;
    mapix_where where;
} parts_job;

static int list_parts(void *arg) {
    parts_job *job = arg;
    for (; job->key < job->end; job->key++) {
        *(volatile uint64_t *)&job->where.record = job->key; /* for a fault */
        iid_prefetch(job->map, job->iid, job->key + KEYS_AHEAD, 64);
        iid_segment s;
        int status = iid_segment_of(job->map, job->iid, job->key, &s, &job->where), more = 1;
        uint64_t at = 0, n = job->n;
        iid_region r;
        while (!status && !(status = iid_next_region(&s, &at, &r, &more, &job->where)) && more) {
            if (!r.nbytes) {
                continue;
            }
            if (n == job->capacity) {
                return MAPIX_OK; /* the caller repeats this segment with a larger output */
            }
            memcpy(job->boxes + 4 * n, r.box, 8);
            const uint64_t place = (uint64_t)(r.bits - job->map->base) - job->iid->segs_at;
            job->leaves[n++] = job->key << 32 | place;
        }
        if (status) {
            return status;
        }
        job->n = n;
    }
    return MAPIX_OK;
}

int mapix_iid_parts(const mapix_map *map, const mapix_iid *iid, uint64_t *key, uint64_t end,
                    uint16_t *boxes, uint64_t *leaves, uint64_t capacity, uint64_t *n,
                    mapix_where *where) {
    if (!iid_usable(map, iid) || end > iid->nsegments || iid->segs_nbytes > UINT32_MAX) {
        return MAPIX_E_ARGUMENT;
    }
    parts_job job = {.map = map, .iid = iid, .key = *key, .end = end, .boxes = boxes,
                     .leaves = leaves, .capacity = capacity};
    const int status = mapix_guarded_checked(map, list_parts, &job);
    *key = job.key;
    *n = job.n;
    *where = job.where;
    return status;
}

/* --- windows ------------------------------------------------------------------------------------ */

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    const mapix_parts *parts;
    tree_shape shape;
    const uint16_t *windows;
    uint64_t nwindows, window;
    uint32_t *found;
    uint64_t capacity, nfound;
    uint32_t *counts;
    uint64_t ngroup, ends[GROUP]; /* windows that are searched together, and where the leaves of each end */
    mapix_where where;
} hits_job;

/* The region of a leaf; 0 when its bits do not lie in the section. */
MAPIX_INLINE int part_of(const hits_job *job, uint32_t leaf, iid_region *r) {
    const uint64_t at = job->parts->leaves[leaf] & UINT32_MAX;
    tree_box(job->parts->nodes, leaf, r->box);
    if (!iid_upright(r->box)) {
        return 0;
    }
    const uint64_t h = r->box[MAXR] - r->box[MINR], w = r->box[MAXC] - r->box[MINC];
    r->nbytes = (h * w + 7) / 8;
    if (at > job->iid->segs_nbytes || r->nbytes > job->iid->segs_nbytes - at) {
        return 0;
    }
    r->bits = job->map->base + job->iid->segs_at + at;
    return 1;
}

static inline uint64_t bit_at(const iid_region *r, uint32_t row, uint32_t col) {
    const uint64_t w = r->box[MAXC] - r->box[MINC];
    return (row - r->box[MINR]) * w + (col - r->box[MINC]);
}

/* Prefetch the bits that are read first. */
MAPIX_INLINE void prefetch_part(const hits_job *job, uint32_t leaf, const uint16_t window[4]) {
    iid_region r;
    if (part_of(job, leaf, &r)) {
        const uint64_t first = bit_at(&r, iid_max(r.box[MINR], window[MINR]),
                                      iid_max(r.box[MINC], window[MINC]));
        __builtin_prefetch(r.bits + first / 8, 0, 3);
    }
}

/* Whether the region of a leaf, which meets the window, has a pixel there. */
static inline int part_has(const hits_job *job, uint32_t leaf, const uint16_t window[4]) {
    iid_region r;
    uint16_t part[4];
    if (!part_of(job, leaf, &r) || !iid_meet(r.box, window, part)) {
        return 0;
    }
    if (part[MAXR] - part[MINR] == 1 && part[MAXC] - part[MINC] == 1) {
        const uint64_t bit = bit_at(&r, part[MINR], part[MINC]);
        return r.bits[bit / 8] >> (7 - bit % 8) & 1;
    }
    for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            if (iid_row_word(&r, row, col, part[MAXC])) {
                return 1;
            }
        }
    }
    return 0;
}

/* The keys of those of some leaves that have a pixel in the window, to `to`, which may be the same
 * place; ascending, each once.  How many. */
static uint64_t keep_hits(hits_job *job, const uint16_t window[4], const uint32_t *leaves,
                          uint64_t n, uint32_t *to, uint32_t *scratch) {
    uint64_t kept = 0, different = 0;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t key = job->parts->leaves[leaves[i]] >> 32;
        *(volatile uint64_t *)&job->where.record = key; /* for a fault */
        if (part_has(job, leaves[i], window)) {
            to[kept++] = (uint32_t)key;
        }
    }
    tree_sort(to, scratch, kept, job->iid->nsegments);
    for (uint64_t i = 0; i < kept; i++) {
        if (!different || to[i] != to[different - 1]) {
            to[different++] = to[i];
        }
    }
    return different;
}

#define BODY "tree_body.h"
#include "each_level.h"
#define BODY "iid_hits_body.h"
#include "each_level.h"

int mapix_iid_hits(const mapix_map *map, const mapix_iid *iid, const mapix_parts *parts,
                   const uint16_t *windows, uint64_t nwindows, uint64_t *window, uint32_t *found,
                   uint64_t capacity, uint64_t *nfound, uint32_t *counts, mapix_where *where) {
    if (!iid_usable(map, iid) || *window > nwindows) {
        return MAPIX_E_ARGUMENT;
    }
    hits_job job;
    job.map = map, job.iid = iid, job.parts = parts, job.shape = tree_shape_of(parts->n);
    job.windows = windows, job.nwindows = nwindows, job.window = *window;
    job.found = found, job.capacity = capacity, job.nfound = 0, job.counts = counts;
    job.where = (mapix_where){0};
    MAPIX_AT_LEVEL(find_group)(&job);
    const int status = mapix_guarded_checked(map, MAPIX_AT_LEVEL(find_hits), &job);
    *window = job.window;
    *nfound = job.nfound;
    *where = job.where;
    return status;
}
