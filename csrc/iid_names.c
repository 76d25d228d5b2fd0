/* iid_names.c - names of an archive: copied out, put into a table, and found there. */
#include "iid.h"
#include "names.h"

enum { BATCH = 32, TEXTS_AHEAD = 8 };

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    uint64_t n;
    uint64_t seed, nslots;
    uint64_t *slots;
    uint32_t *next;
    const uint8_t *bytes;
    const uint64_t *ends;
    int64_t *keys;
    mapix_where where;
} names_job;

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

static int name_of(const names_job *job, uint64_t key, iid_name *name, mapix_where *where) {
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

MAPIX_INLINE void prefetch_name(const names_job *job, uint32_t key) {
    if (key < job->iid->nsegments) {
        const iid_row row = iid_row_of(job->map, job->iid, key);
        if (row.name_at < job->iid->iids_nbytes) {
            __builtin_prefetch(job->map->base + job->iid->iids_at + row.name_at, 0, 3);
        }
    }
}

/* The hash of what is asked for: of domain and iid, of the iid alone, or of the domain alone. */
static uint64_t hash_part(const iid_name *name, uint32_t part, uint64_t seed) {
    switch (part) {
    case MAPIX_NAME: return hash_name(name, seed);
    case MAPIX_NAME_IID: return hash_bytes(name->iid, name->iid_nbytes, seed);
    default: return hash_bytes(name->domain, name->domain_nbytes, seed);
    }
}

typedef struct {
    names_job base;
    uint64_t first;
    uint32_t part;
    uint64_t *hashes;
} hashes_job;

static int hash_names(void *arg) {
    hashes_job *job = arg;
    for (uint64_t i = 0; i < job->base.n; i++) {
        const uint64_t key = job->first + i;
        iid_name name;
        *(volatile uint64_t *)&job->base.where.record = key;
        const int status = name_of(&job->base, key, &name, &job->base.where);
        if (status) {
            return status;
        }
        job->hashes[i] = hash_part(&name, job->part, job->base.seed);
    }
    return MAPIX_OK;
}

int mapix_iid_hashes(const mapix_map *map, const mapix_iid *iid, uint64_t first, uint64_t n,
                     uint32_t part, uint64_t seed, uint64_t *hashes, mapix_where *where) {
    hashes_job job = {.base = {.map = map, .iid = iid, .n = n, .seed = seed},
                      .first = first,
                      .part = part,
                      .hashes = hashes};
    if (!iid_usable(map, iid) || part > MAPIX_NAME_DOMAIN || first > iid->nsegments ||
        n > iid->nsegments - first) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = mapix_guarded_checked(map, hash_names, &job);
    *where = job.base.where;
    return status;
}

typedef struct {
    names_job base;
    const uint32_t *wanted;
    uint64_t *ends_out;
    uint8_t *out;
    uint64_t capacity, nbytes;
} texts_job;

static int copy_texts(void *arg) {
    texts_job *job = arg;
    for (uint64_t i = 0; i < job->base.n; i++) {
        iid_name name;
        if (i + 2 * TEXTS_AHEAD < job->base.n) {
            iid_prefetch_row(job->base.map, job->base.iid, job->wanted[i + 2 * TEXTS_AHEAD]);
            prefetch_name(&job->base, job->wanted[i + TEXTS_AHEAD]);
        }
        if (job->wanted[i] >= job->base.iid->nsegments) {
            return iid_fail(&job->base.where, MAPIX_E_ROW, i, 0, job->base.iid->nsegments,
                            job->wanted[i]);
        }
        *(volatile uint64_t *)&job->base.where.record = job->wanted[i];
        const int status = name_of(&job->base, job->wanted[i], &name, &job->base.where);
        if (status) {
            return status;
        }
        const uint64_t all = name.domain_nbytes + name.iid_nbytes; /* back to back */
        if (job->nbytes <= job->capacity && all <= job->capacity - job->nbytes) {
            memcpy(job->out + job->nbytes, name.domain, all);
        }
        job->ends_out[2 * i] = job->nbytes + name.domain_nbytes;
        job->nbytes += all;
        job->ends_out[2 * i + 1] = job->nbytes;
    }
    return job->nbytes > job->capacity ? MAPIX_E_SHAPE : MAPIX_OK;
}

int mapix_iid_texts(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                    uint64_t *ends, uint8_t *out, uint64_t capacity, uint64_t *nbytes,
                    mapix_where *where) {
    texts_job job = {.base = {.map = map, .iid = iid, .n = n},
                     .wanted = keys,
                     .ends_out = ends,
                     .out = out,
                     .capacity = capacity};
    if (!iid_usable(map, iid)) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = mapix_guarded_checked(map, copy_texts, &job);
    *nbytes = job.nbytes;
    *where = job.base.where;
    return status;
}

/* The slot of a name: its own, or the empty one where it belongs. */
static int find_slot(const names_job *job, const iid_name *name, uint64_t hash, uint64_t *slot,
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
    return MAPIX_E_ARGUMENT; /* full: the caller's table is too small */
}

/* A batch is hashed first, and the slots that it leads to asked for. */
static int build_names(void *arg) {
    names_job *job = arg;
    iid_name names[BATCH];
    uint64_t hashes[BATCH];
    /* from the last one on, so that chains ascend */
    for (uint64_t end = job->iid->nsegments; end > 0;) {
        const uint64_t n = end < BATCH ? end : BATCH;
        for (uint64_t i = 0; i < n; i++) {
            const uint64_t key = end - 1 - i;
            *(volatile uint64_t *)&job->where.record = key;
            const int status = name_of(job, key, &names[i], &job->where);
            if (status) {
                return status;
            }
            hashes[i] = hash_name(&names[i], job->seed);
            __builtin_prefetch(&job->slots[hashes[i] & (job->nslots - 1)], 1, 3);
        }
        for (uint64_t i = 0; i < n; i++) {
            const uint64_t key = end - 1 - i;
            uint64_t slot;
            const int status = find_slot(job, &names[i], hashes[i], &slot, &job->where);
            if (status) {
                return status;
            }
            const uint64_t held = job->slots[slot];
            job->next[key] = held ? (uint32_t)held - 1 : UINT32_MAX;
            job->slots[slot] = hashes[i] >> 32 << 32 | (key + 1);
        }
        end -= n;
    }
    return MAPIX_OK;
}

static int names_usable(const names_job *job) {
    return iid_usable(job->map, job->iid) && job->nslots > 2 * job->iid->nsegments &&
           (job->nslots & (job->nslots - 1)) == 0;
}

int mapix_iid_names(const mapix_map *map, const mapix_iid *iid, uint64_t seed, uint64_t *slots,
                    uint64_t nslots, uint32_t *next, mapix_where *where) {
    names_job job = {
        .map = map, .iid = iid, .seed = seed, .slots = slots, .nslots = nslots, .next = next};
    if (!names_usable(&job)) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = mapix_guarded_checked(map, build_names, &job);
    *where = job.where;
    return status;
}

static iid_name wanted_name(const names_job *job, uint64_t i) {
    const uint64_t at = i ? job->ends[2 * i - 1] : 0;
    return (iid_name){job->bytes + at, job->bytes + job->ends[2 * i], job->ends[2 * i] - at,
                      job->ends[2 * i + 1] - job->ends[2 * i]};
}

/* Whether the ends of names do not descend. */
static int ends_ascend(const uint64_t *ends, uint64_t n) {
    uint64_t before = 0;
    for (uint64_t i = 0; i < 2 * n; i++) {
        if (ends[i] < before) {
            return 0;
        }
        before = ends[i];
    }
    return 1;
}

int mapix_name_hashes(const uint8_t *bytes, const uint64_t *ends, uint64_t n, uint32_t part,
                      uint64_t seed, uint64_t *hashes) {
    const names_job job = {.bytes = bytes, .ends = ends, .n = n};
    if (part > MAPIX_NAME_DOMAIN || !ends_ascend(ends, n)) {
        return MAPIX_E_ARGUMENT;
    }
    for (uint64_t i = 0; i < n; i++) {
        const iid_name name = wanted_name(&job, i);
        hashes[i] = hash_part(&name, part, seed);
    }
    return MAPIX_OK;
}

/* The key that a hash's first slot holds; UINT32_MAX where it holds none, or another's. */
static inline uint32_t likely_key(const names_job *job, uint64_t hash) {
    const uint64_t held = job->slots[hash & (job->nslots - 1)];
    return held && held >> 32 == hash >> 32 ? (uint32_t)held - 1 : UINT32_MAX;
}

/* A batch goes from slot to lookup row to name together, each step asked for before it is needed. */
static int find_names(void *arg) {
    names_job *job = arg;
    iid_name names[BATCH];
    uint64_t hashes[BATCH];
    for (uint64_t first = 0; first < job->n; first += BATCH) {
        const uint64_t n = job->n - first < BATCH ? job->n - first : BATCH;
        for (uint64_t i = 0; i < n; i++) {
            names[i] = wanted_name(job, first + i);
            hashes[i] = hash_name(&names[i], job->seed);
            __builtin_prefetch(&job->slots[hashes[i] & (job->nslots - 1)], 0, 3);
        }
        for (uint64_t i = 0; n > 1 && i < n; i++) {
            iid_prefetch_row(job->map, job->iid, likely_key(job, hashes[i]));
        }
        for (uint64_t i = 0; n > 1 && i < n; i++) {
            prefetch_name(job, likely_key(job, hashes[i]));
        }
        for (uint64_t i = 0; i < n; i++) {
            uint64_t slot;
            const int status = find_slot(job, &names[i], hashes[i], &slot, &job->where);
            if (status) {
                return status;
            }
            job->keys[first + i] = (int64_t)(job->slots[slot] & UINT32_MAX) - 1;
        }
    }
    return MAPIX_OK;
}

int mapix_iid_find(const mapix_map *map, const mapix_iid *iid, uint64_t seed,
                   const uint64_t *slots, uint64_t nslots, const uint8_t *bytes,
                   const uint64_t *ends, uint64_t n, int64_t *keys, mapix_where *where) {
    names_job job = {.map = map,
                       .iid = iid,
                       .seed = seed,
                       .slots = (uint64_t *)(uintptr_t)slots, /* only read here */
                       .nslots = nslots,
                       .bytes = bytes,
                       .ends = ends,
                       .n = n,
                       .keys = keys};
    if (!names_usable(&job) || !ends_ascend(ends, n)) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = mapix_guarded_checked(map, find_names, &job);
    *where = job.where;
    return status;
}
