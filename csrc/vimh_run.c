/* vimh_run.c - find the records of a VIMH file while they are all alike.
 *
 * Where a record ends is known only from its header, so a walk is a chain of cache misses, each
 * waiting for the last.  While records are alike the next headers are where the stride says: eight
 * are read at a time, independent of each other, with a prefetch further ahead.
 */
#include "guard.h"
#include "pages.h"
#include "vimh.h"

enum {
    GROUP = 8,             /* headers read at once */
    AHEAD = 32,            /* records prefetched ahead */
    SPARSE_AHEAD = 64      /* headers of large records asked for at once, when cold */
};

typedef struct {
    uint64_t at, nrecords, stop_at;
    uint64_t ids[4];
    uint32_t ids_differ;
    int status;
} run_result;

typedef struct {
    const mapix_map *map;
    const mapix_walk *walk;
    uint64_t stop_at;
    mapix_where where;
    run_result result;
} run_job;

/* Does the record at p have the first's shape and pair count?  Both loads are independent of what
 * any other record holds. */
static inline int alike(const uint8_t *p, uint64_t shape, uint8_t n, uint32_t head_nbytes) {
    uint32_t hw;
    uint16_t c;
    memcpy(&hw, p, 4);
    memcpy(&c, p + 4, 2);
    return ((uint64_t)hw | (uint64_t)c << 32) == shape && p[head_nbytes] == n;
}

/* On a cold file of large records every header is a disk read of its own: ask for the next 64 at
 * once.  One mincore per block shows whether the file is in memory. */
static void fetch_headers_ahead(const mapix_map *map, uint64_t at, uint64_t stride) {
    const uint64_t probe = at + stride * (SPARSE_AHEAD - 1);
    if (probe >= map->nbytes || mapix_resident(map, probe)) {
        return;
    }
    for (uint64_t i = 0; i < SPARSE_AHEAD; i++) {
        mapix_willneed(map, at + i * stride, 1);
    }
}

/* The ids of up to 4 pairs as one word, for comparing records quickly; needs 8 readable bytes. */
static inline uint64_t id_word(const uint8_t *pairs) {
    uint64_t word;
    memcpy(&word, pairs, 8);
    return word;
}

static int run_walk(void *arg) {
    run_job *job = arg;
    const mapix_map *map = job->map;
    const uint8_t *base = map->base;
    const uint32_t head = job->walk->head_nbytes;
    run_result r = {job->walk->at, job->walk->nrecords, job->stop_at, {0, 0, 0, 0}, 0, MAPIX_OK};
    memcpy(r.ids, job->walk->ids, sizeof r.ids);
    r.ids_differ = job->walk->ids_differ;
    vimh_header first;
    int status = vimh_decode(base, map->nbytes, 0, head, &first, &job->where);
    if (status) {
        return status;
    }
    const uint64_t stride = first.size;
    const uint8_t n = first.n;
    const uint8_t *first_pairs = base + head + 1;
    uint32_t hw;
    uint16_t c;
    memcpy(&hw, base, 4);
    memcpy(&c, base + 4, 2);
    const uint64_t shape = (uint64_t)hw | (uint64_t)c << 32;
    /* Up to four pairs are compared as one masked word, and only if every record is long enough
     * for an 8-byte load of them to stay inside it. */
    const int wide = n > 0 && n <= 4 && stride - head - 1 >= 8;
    uint8_t mask_bytes[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (unsigned k = 0; wide && k < n; k++) {
        mask_bytes[2 * k] = 0xff;
    }
    const uint64_t id_mask = id_word(mask_bytes);
    const uint64_t first_ids = wide ? id_word(first_pairs) & id_mask : 0;
    ids_add(r.ids, first_pairs, n);
    const int sparse = stride >= SPARSE_NBYTES;

    uint64_t at = r.at, fetched = 0;
    uint64_t whole = (map->nbytes - at) / stride; /* records that fit into what is left */
    while (whole > 0 && at < job->stop_at) {
        if (sparse && at >= fetched) {
            fetch_headers_ahead(map, at, stride);
            fetched = at + stride * SPARSE_AHEAD;
        }
        const uint64_t group = whole < GROUP ? whole : GROUP;
        const uint8_t *p = base + at;
        uint64_t same = 0, differ = 0;
        if (MAPIX_LIKELY(group == GROUP)) {
            if (whole >= AHEAD + GROUP) {
                for (uint64_t i = 0; i < GROUP; i++) {
                    MAPIX_PREFETCH(p, (AHEAD + i) * stride);
                    MAPIX_PREFETCH(p, (AHEAD + i) * stride + head + 8); /* often the same line */
                }
            }
            int all = 1;
            for (uint64_t i = 0; i < GROUP; i++) {
                all &= alike(p + i * stride, shape, n, head);
            }
            same = all ? GROUP : 0;
        }
        while (same < group && alike(p + same * stride, shape, n, head)) {
            same++;
        }
        for (uint64_t i = 0; i < same; i++) {
            const uint8_t *pairs = p + i * stride + head + 1;
            if (wide) {
                differ |= (id_word(pairs) & id_mask) ^ first_ids;
            } else {
                for (unsigned k = 0; k < n; k++) {
                    differ |= pairs[2 * k] ^ first_pairs[2 * k];
                }
            }
        }
        if (MAPIX_UNLIKELY(differ)) {
            r.ids_differ = 1;
            for (uint64_t i = 0; i < same; i++) {
                ids_add(r.ids, p + i * stride + head + 1, n);
            }
        }
        at += same * stride;
        r.nrecords += same;
        whole -= same;
        if (same < group) {
            break;
        }
    }
    r.at = at;
    job->result = r;
    return MAPIX_OK;
}

int mapix_vimh_run(const mapix_map *map, mapix_walk *walk, uint64_t stop_at) {
    if (walk->at > map->nbytes || (walk->head_nbytes != 6 && walk->head_nbytes != 14)) {
        return MAPIX_E_ARGUMENT;
    }
    run_job job = {.map = map, .walk = walk, .stop_at = stop_at};
    const int status = mapix_guarded_checked(map, run_walk, &job);
    if (status) {
        job.where.record = 0;
        job.where.at = 0;
        walk->where = job.where;
        return status;
    }
    walk->at = job.result.at;
    walk->nrecords = job.result.nrecords;
    walk->ids_differ = job.result.ids_differ;
    memcpy(walk->ids, job.result.ids, sizeof walk->ids);
    return MAPIX_OK;
}
