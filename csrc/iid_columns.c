/* iid_columns.c - the lookup table of an archive, swept: proven rows, boxes and areas, names. */
#include "iid.h"

enum { ROWS_AHEAD = 16 };

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    uint64_t first, n, nswapped;
    uint16_t *boxes;
    uint32_t *areas;
    uint64_t seed, nslots;
    uint64_t *slots;
    uint32_t *next;
    const uint8_t *bytes;
    const uint64_t *ends;
    int64_t *keys;
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
        job->nswapped += (uint64_t)s.swapped;
    }
    return MAPIX_OK;
}

int mapix_iid_columns(const mapix_map *map, const mapix_iid *iid, uint64_t first, uint64_t n,
                      uint16_t *boxes, uint32_t *areas, uint64_t *nswapped, mapix_where *where) {
    if (!iid_usable(map, iid) || first > iid->nsegments || n > iid->nsegments - first ||
        (boxes && !areas)) {
        return MAPIX_E_ARGUMENT;
    }
    columns_job job = {
        .map = map, .iid = iid, .first = first, .n = n, .boxes = boxes, .areas = areas};
    const int status = mapix_guarded_checked(map, sweep, &job);
    *nswapped = job.nswapped;
    *where = job.where;
    return status;
}

/* --- names ------------------------------------------------------------------------------------- */

/* Seeded, so that nobody can write a file whose names all meet in one place. */
static uint64_t mix(uint64_t a, uint64_t b) {
    const unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_bytes(const uint8_t *p, uint64_t nbytes, uint64_t hash) {
    hash ^= nbytes * UINT64_C(0x9e3779b97f4a7c15);
    for (; nbytes >= 8; nbytes -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        hash = mix(hash ^ word, UINT64_C(0xa0761d6478bd642f));
    }
    uint64_t word = 0;
    for (uint64_t k = 0; k < nbytes; k++) {
        word |= (uint64_t)p[k] << (8 * k);
    }
    return mix(hash ^ word, UINT64_C(0xe7037ed1a0b428db));
}

typedef struct {
    const uint8_t *domain, *iid;
    uint64_t domain_nbytes, iid_nbytes;
} iid_name;

static uint64_t hash_name(const iid_name *name, uint64_t seed) {
    const uint64_t hash = hash_bytes(name->domain, name->domain_nbytes, seed);
    return hash_bytes(name->iid, name->iid_nbytes, hash);
}

static int same_name(const iid_name *a, const iid_name *b) {
    return a->domain_nbytes == b->domain_nbytes && a->iid_nbytes == b->iid_nbytes &&
           memcmp(a->domain, b->domain, a->domain_nbytes) == 0 &&
           memcmp(a->iid, b->iid, a->iid_nbytes) == 0;
}

static int name_of(const columns_job *job, uint64_t key, iid_name *name, mapix_where *where) {
    const iid_row row = iid_row_of(job->map, job->iid, key);
    const int status = iid_check_row(job->iid, &row, key, where);
    if (status) {
        return status;
    }
    const uint64_t at = job->iid->iids_at + row.name_at;
    const uint8_t *p = job->map->base + at;
    if (iid_u32(p) != key) {
        return iid_fail(where, MAPIX_E_IID_KEY, key, at, key, iid_u32(p));
    }
    name->domain_nbytes = iid_u32(p + 4);
    name->iid_nbytes = iid_u32(p + 8);
    if (NAME_HEAD + name->domain_nbytes + name->iid_nbytes != row.name_nbytes) {
        return iid_fail(where, MAPIX_E_IID_NAME, key, at + 4, row.name_nbytes,
                        NAME_HEAD + name->domain_nbytes + name->iid_nbytes);
    }
    name->domain = p + NAME_HEAD;
    name->iid = name->domain + name->domain_nbytes;
    return MAPIX_OK;
}

typedef struct {
    columns_job base;
    const uint32_t *wanted;
    uint64_t *ends_out;
    uint8_t *out;
    uint64_t room, nbytes;
} texts_job;

static int copy_texts(void *arg) {
    texts_job *job = arg;
    for (uint64_t i = 0; i < job->base.n; i++) {
        iid_name name;
        if (job->wanted[i] >= job->base.iid->nsegments) {
            return iid_fail(&job->base.where, MAPIX_E_ROW, i, 0, job->base.iid->nsegments,
                            job->wanted[i]);
        }
        *(volatile uint64_t *)&job->base.where.record = job->wanted[i];
        const int status = name_of(&job->base, job->wanted[i], &name, &job->base.where);
        if (status) {
            return status;
        }
        const uint64_t all = name.domain_nbytes + name.iid_nbytes; /* one behind the other */
        if (job->nbytes <= job->room && all <= job->room - job->nbytes) {
            memcpy(job->out + job->nbytes, name.domain, all);
        }
        job->ends_out[2 * i] = job->nbytes + name.domain_nbytes;
        job->nbytes += all;
        job->ends_out[2 * i + 1] = job->nbytes;
    }
    return job->nbytes > job->room ? MAPIX_E_SHAPE : MAPIX_OK;
}

int mapix_iid_texts(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                    uint64_t *ends, uint8_t *out, uint64_t room, uint64_t *nbytes,
                    mapix_where *where) {
    texts_job job = {.base = {.map = map, .iid = iid, .n = n},
                     .wanted = keys,
                     .ends_out = ends,
                     .out = out,
                     .room = room};
    if (!iid_usable(map, iid)) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = mapix_guarded_checked(map, copy_texts, &job);
    *nbytes = job.nbytes;
    *where = job.base.where;
    return status;
}

/* The slot of a name: its own, or the empty one where it belongs. */
static int find_slot(const columns_job *job, const iid_name *name, uint64_t hash, uint64_t *slot,
                     mapix_where *where) {
    const uint64_t mask = job->nslots - 1, tag = hash >> 32;
    *slot = hash & mask;
    for (uint64_t k = 0; k < job->nslots; k++, *slot = (*slot + 1) & mask) {
        const uint64_t held = job->slots[*slot];
        const uint64_t key = (held & UINT32_MAX) - 1;
        if (!held) {
            return MAPIX_OK;
        }
        if (held >> 32 != tag || key >= job->iid->nsegments) {
            continue;
        }
        iid_name other;
        const int status = name_of(job, key, &other, where);
        if (status) {
            return status;
        }
        if (same_name(name, &other)) {
            return MAPIX_OK;
        }
    }
    return MAPIX_E_ARGUMENT; /* full: nobody has left room */
}

static int build_names(void *arg) {
    columns_job *job = arg;
    /* from the last one on, so that chains ascend */
    for (uint64_t key = job->iid->nsegments; key-- > 0;) {
        *(volatile uint64_t *)&job->where.record = key;
        iid_name name;
        int status = name_of(job, key, &name, &job->where);
        if (status) {
            return status;
        }
        const uint64_t hash = hash_name(&name, job->seed);
        uint64_t slot;
        status = find_slot(job, &name, hash, &slot, &job->where);
        if (status) {
            return status;
        }
        const uint64_t held = job->slots[slot];
        job->next[key] = held ? (uint32_t)held - 1 : UINT32_MAX;
        job->slots[slot] = hash >> 32 << 32 | (key + 1);
    }
    return MAPIX_OK;
}

static int names_usable(const columns_job *job) {
    return iid_usable(job->map, job->iid) && job->nslots > 2 * job->iid->nsegments &&
           (job->nslots & (job->nslots - 1)) == 0;
}

int mapix_iid_names(const mapix_map *map, const mapix_iid *iid, uint64_t seed, uint64_t *slots,
                    uint64_t nslots, uint32_t *next, mapix_where *where) {
    columns_job job = {
        .map = map, .iid = iid, .seed = seed, .slots = slots, .nslots = nslots, .next = next};
    if (!names_usable(&job)) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = mapix_guarded_checked(map, build_names, &job);
    *where = job.where;
    return status;
}

static int find_names(void *arg) {
    columns_job *job = arg;
    uint64_t at = 0;
    for (uint64_t i = 0; i < job->n; i++) {
        iid_name name;
        name.domain = job->bytes + at;
        name.domain_nbytes = job->ends[2 * i] - at;
        name.iid = job->bytes + job->ends[2 * i];
        name.iid_nbytes = job->ends[2 * i + 1] - job->ends[2 * i];
        at = job->ends[2 * i + 1];
        uint64_t slot;
        const int status =
            find_slot(job, &name, hash_name(&name, job->seed), &slot, &job->where);
        if (status) {
            return status;
        }
        job->keys[i] = (int64_t)(job->slots[slot] & UINT32_MAX) - 1;
    }
    return MAPIX_OK;
}

int mapix_iid_find(const mapix_map *map, const mapix_iid *iid, uint64_t seed,
                   const uint64_t *slots, uint64_t nslots, const uint8_t *bytes,
                   const uint64_t *ends, uint64_t n, int64_t *keys, mapix_where *where) {
    columns_job job = {.map = map,
                       .iid = iid,
                       .seed = seed,
                       .slots = (uint64_t *)(uintptr_t)slots, /* only read here */
                       .nslots = nslots,
                       .bytes = bytes,
                       .ends = ends,
                       .n = n,
                       .keys = keys};
    uint64_t before = 0;
    for (uint64_t i = 0; i < 2 * n; i++) {
        if (ends[i] < before) {
            return MAPIX_E_ARGUMENT;
        }
        before = ends[i];
    }
    if (!names_usable(&job)) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = mapix_guarded_checked(map, find_names, &job);
    *where = job.where;
    return status;
}
