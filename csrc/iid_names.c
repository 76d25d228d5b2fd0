/* iid_names.c - names of an archive: copied out, put into a table, and found there. */
#include "iid.h"
#include "names.h"

enum { BATCH = 32, TEXTS_AHEAD = 8 };

/* A slot of a table of names: a tag of the hash, which is odd, and where the name begins in its section; 0 for none.
 * So the lookup table is not read to compare names. */
static inline uint64_t tag_of(uint64_t hash) {
    return (hash >> 32 | 1) << 32;
}

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
    const uint8_t *domain, *iid; /* back to back */
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
    if (n) {
        iid_prefetch_row(map, iid, keys[0]); /* under way while the guard is entered */
    }
    const int status = mapix_guarded_checked(map, copy_texts, &job);
    *nbytes = job.nbytes;
    *where = job.base.where;
    return status;
}

/* The name at a place of its section, and its key; 0 where there is none.  Of a slot: its lookup row was checked when
 * the table was made, and the file is unchanged, or the call fails. */
static int name_there(const names_job *job, uint64_t name_at, iid_name *name, uint64_t *key) {
    const uint64_t left = job->iid->iids_nbytes - name_at;
    if (name_at > job->iid->iids_nbytes || left < NAME_HEAD) {
        return 0;
    }
    const uint8_t *p = job->map->base + job->iid->iids_at + name_at;
    *key = iid_u32(p);
    name->domain_nbytes = iid_u32(p + 4);
    name->iid_nbytes = iid_u32(p + 8);
    name->domain = p + NAME_HEAD;
    name->iid = name->domain + name->domain_nbytes;
    return *key < job->iid->nsegments && name->domain_nbytes + name->iid_nbytes <= left - NAME_HEAD;
}

/* The slot of a name: its own, and its key, or the empty one where it belongs, and -1. */
static int find_slot(const names_job *job, const iid_name *name, uint64_t hash, uint64_t *slot, int64_t *found) {
    const uint64_t mask = job->nslots - 1, tag = tag_of(hash);
    *slot = hash & mask;
    for (uint64_t k = 0; k < job->nslots; k++, *slot = (*slot + 1) & mask) {
        const uint64_t held = job->slots[*slot];
        iid_name other;
        uint64_t key;
        if (!held) {
            *found = -1;
            return MAPIX_OK;
        }
        if ((held ^ tag) >> 32 == 0 && name_there(job, held & UINT32_MAX, &other, &key) && same_name(name, &other)) {
            *found = (int64_t)key;
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
            int64_t later;
            const int status = find_slot(job, &names[i], hashes[i], &slot, &later);
            if (status) {
                return status;
            }
            const uint64_t at = (uint64_t)(names[i].domain - NAME_HEAD - job->map->base);
            if (later >= 0 && (uint64_t)later <= key) { /* it was another: the file is being written to */
                return iid_fail(&job->where, MAPIX_E_IID_KEY, key, at, key, (uint64_t)later);
            }
            job->next[key] = later < 0 ? UINT32_MAX : (uint32_t)later;
            job->slots[slot] = tag_of(hashes[i]) | (at - job->iid->iids_at);
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

/* Names of two batches, and their hashes: one is read, the other was asked for. */
typedef struct {
    names_job base;
    iid_name names[2][BATCH];
    uint64_t hashes[2][BATCH];
} find_job;

/* Hash a batch, and prefetch slots, then names.  Reads nothing of the map, so it needs no guard. */
static void ask_for_names(find_job *job, uint64_t first) {
    const names_job *base = &job->base;
    const unsigned side = first / BATCH & 1;
    const uint64_t n = base->n - first < BATCH ? base->n - first : BATCH;
    for (uint64_t i = 0; i < n; i++) {
        job->names[side][i] = wanted_name(base, first + i);
        job->hashes[side][i] = hash_name(&job->names[side][i], base->seed);
        __builtin_prefetch(&base->slots[job->hashes[side][i] & (base->nslots - 1)], 0, 3);
    }
    const uint8_t *section = base->map->base + base->iid->iids_at;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t held = base->slots[job->hashes[side][i] & (base->nslots - 1)];
        if ((held ^ tag_of(job->hashes[side][i])) >> 32 == 0 && (held & UINT32_MAX) < base->iid->iids_nbytes) {
            __builtin_prefetch(section + (held & UINT32_MAX), 0, 3);
        }
    }
}

/* The first batch has been asked for. */
static int find_names(void *arg) {
    find_job *job = arg;
    const names_job *base = &job->base;
    for (uint64_t first = 0; first < base->n; first += BATCH) {
        const unsigned side = first / BATCH & 1;
        if (base->n - first > BATCH) {
            ask_for_names(job, first + BATCH);
        }
        for (uint64_t i = 0; i < BATCH && i < base->n - first; i++) {
            uint64_t slot;
            const int status =
                find_slot(base, &job->names[side][i], job->hashes[side][i], &slot, &base->keys[first + i]);
            if (status) {
                return status;
            }
        }
    }
    return MAPIX_OK;
}

int mapix_iid_find(const mapix_map *map, const mapix_iid *iid, uint64_t seed,
                   const uint64_t *slots, uint64_t nslots, const uint8_t *bytes,
                   const uint64_t *ends, uint64_t n, int64_t *keys, mapix_where *where) {
    find_job job;
    job.base = (names_job){.map = map,
                           .iid = iid,
                           .seed = seed,
                           .slots = (uint64_t *)(uintptr_t)slots, /* only read here */
                           .nslots = nslots,
                           .bytes = bytes,
                           .ends = ends,
                           .n = n,
                           .keys = keys};
    if (!names_usable(&job.base) || !ends_ascend(ends, n)) {
        return MAPIX_E_ARGUMENT;
    }
    ask_for_names(&job, 0);
    const int status = mapix_guarded_checked(map, find_names, &job);
    *where = job.base.where;
    return status;
}
