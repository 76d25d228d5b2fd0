/* vimh_walk.c - find every record of a VIMH file, whatever their sizes.
 *
 * Sixteen chains walk sixteen stretches of a window at once, so that their cache misses overlap.  A
 * chain starts where sixteen plausible headers follow one another, which is only a guess; its
 * records count only once the proven chain before it has landed on one of them.  The answer is
 * always exactly the plain hop's.
 *
 * A window that is not in memory is hopped: one reader going forward is what the kernel's readahead
 * is made for, and sixteen at once make a disk seek.
 */
#include "guard.h"
#include "pages.h"
#include "vimh.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#ifndef MAPIX_CHAIN_CAPACITY /* a fuzzing build makes it small, so that small files fill chains */
#define MAPIX_CHAIN_CAPACITY 8192
#endif

enum {
    NCHAINS = 16,
    CHAIN_CAPACITY = MAPIX_CHAIN_CAPACITY, /* entries a chain may hold in a window */
    CHAIN_AIM = CHAIN_CAPACITY / 4 * 3,    /* records that a stretch is sized for */
    PROVE = 16,            /* plausible headers in a row that make a start */
    NSEEN = 257,
    MOST_BEFORE = 14 + 1 + 2 * 255, /* bytes of a record before its image */
    NEAR_IDS = 8,          /* labels of a record that are read together */
    TESTED_PAGES = 4,             /* pages of a window that are tested for being in memory */
    LEARN = 64,            /* records hopped to learn what is plausible */
    MAX_TRIES = 64,        /* starts tried for a chain before it is given up */
    MAX_REACH = 262144     /* bytes searched for a start */
};

#define SHAPE_MASK UINT64_C(0xffffffffffff) /* h, w and c of eight bytes */
#define NOWHERE (UINT64_MAX / 2)            /* beyond every file */

typedef struct {
    const mapix_map *map;
    mapix_walk walk; /* a copy: the caller's changes only when the call went well */
    uint64_t stop_at;
    mapix_entry *entries;
    uint64_t capacity;
    uint64_t nwritten;
    mapix_entry *scratch;
} table_job;

/* Append the next record to the table: MAPIX_OK, or why it is not a record. */
static inline int hop_one(table_job *job) {
    vimh_header header;
    const uint64_t at = job->walk.at;
    const int status = vimh_decode(job->map->base, job->map->nbytes, at, job->walk.head_nbytes, &header,
                                   &job->walk.where);
    if (MAPIX_UNLIKELY(status)) {
        job->walk.where.record = job->walk.nrecords;
        job->walk.where.at = at;
        return status;
    }
    ids_add(job->walk.ids, job->map->base + at + job->walk.head_nbytes + 1, header.n);
    entry_set(&job->entries[job->nwritten++], at, &header);
    job->walk.nrecords++;
    job->walk.at = at + header.size;
    return MAPIX_OK;
}

static inline int hop_until(table_job *job, uint64_t stop_at) {
    const uint64_t stop = stop_at < job->map->nbytes ? stop_at : job->map->nbytes;
    while (job->walk.at < stop && job->nwritten < job->capacity) {
        const int status = hop_one(job);
        if (status) {
            return status;
        }
    }
    return MAPIX_OK;
}

static int hop_all(void *arg) {
    table_job *job = arg;
    return hop_until(job, job->stop_at);
}

/* What records of this file have looked like so far; only a filter for starts. */
typedef struct {
    uint64_t max_size, mean_size;
    uint32_t max_h, max_w, max_c, max_n;
} habits;

static habits habits_of(const mapix_entry *entries, uint64_t n, uint64_t span) {
    habits seen = {.mean_size = n ? span / n : 1};
    for (uint64_t i = 0; i < n; i++) {
        const mapix_entry *e = &entries[i];
        const uint64_t size = pixels(e->h, e->w, e->c) + 2 * (uint64_t)entry_n(e) + 15;
        seen.max_size = size > seen.max_size ? size : seen.max_size;
        seen.max_h = e->h > seen.max_h ? e->h : seen.max_h;
        seen.max_w = e->w > seen.max_w ? e->w : seen.max_w;
        seen.max_c = e->c > seen.max_c ? e->c : seen.max_c;
        seen.max_n = entry_n(e) > seen.max_n ? entry_n(e) : seen.max_n;
    }
    seen.mean_size = seen.mean_size ? seen.mean_size : 1;
    return seen;
}

/* Whether height and width at p can be those of a record: most bytes are not the start of one. */
static inline int likely(const habits *seen, const uint8_t *p) {
    return load_u16(p) - 1u < 2 * seen->max_h && load_u16(p + 2) - 1u < 2 * seen->max_w;
}

static inline int plausible(const habits *seen, const vimh_header *header) {
    return header->h <= 2 * seen->max_h && header->w <= 2 * seen->max_w &&
           header->c <= 2 * seen->max_c && header->n <= 2 * seen->max_n + 2 &&
           header->size <= 4 * seen->max_size;
}

/* The first place in [at, end) from which PROVE plausible headers follow one another, or end. */
static uint64_t find_start(const mapix_map *map, uint32_t head_nbytes, const habits *seen,
                           uint64_t at, uint64_t end) {
    mapix_where ignored;
    vimh_header header;
    int tries = 0;
    const uint64_t reach = 4 * seen->max_size < MAX_REACH ? 4 * seen->max_size : MAX_REACH;
    end = end - at > reach ? at + reach : end;
    for (; at < end && tries < MAX_TRIES; at++) {
        uint64_t next = at;
        int proven = 0;
        if (map->nbytes - at >= 4 && !likely(seen, map->base + at)) {
            continue;
        }
        while (proven < PROVE && next < map->nbytes &&
               vimh_decode(map->base, map->nbytes, next, head_nbytes, &header, &ignored) ==
                   MAPIX_OK &&
               plausible(seen, &header)) {
            next += header.size;
            proven++;
        }
        if (proven == PROVE || (proven > 0 && next == map->nbytes)) {
            return at;
        }
        tries += proven > 0;
    }
    return UINT64_MAX;
}

typedef struct {
    uint64_t start, at, goal;
    mapix_entry *entries;
    uint64_t n;
    uint8_t seen[NSEEN]; /* 1 for each label id; the last place is for what is not a label */
} chain;

/* Note the label ids of a record.  Records list different numbers of labels, so that a loop over them ends
 * at a guess that is mostly wrong, which ends the processor's speculation: up to eight are noted without one. */
static void note_ids(const mapix_map *map, uint64_t pairs_at, unsigned nlabels, uint8_t *seen) {
    const uint8_t *pairs = map->base + pairs_at;
    if (MAPIX_LIKELY(nlabels <= NEAR_IDS && map->nbytes - pairs_at >= 2 * NEAR_IDS)) {
        for (unsigned i = 0; i < NEAR_IDS; i++) {
            seen[i < nlabels ? pairs[2 * i] : NSEEN - 1] = 1;
        }
    } else {
        for (unsigned i = 0; i < nlabels; i++) {
            seen[pairs[2 * i]] = 1;
        }
    }
}

/* How many ids from 0 on are in a set. */
static unsigned ids_without_gap(const uint64_t ids[4]) {
    unsigned n = 0;
    while (n < 256 && ids[n >> 6] >> (n & 63) & 1) {
        n++;
    }
    return n;
}

/* Whether one of the first n ids, at most NEAR_IDS, is nknown or above; nknown is not 0. */
static inline int other_ids(const uint8_t *pairs, unsigned n, unsigned nknown) {
#if defined(__SSE2__)
    static const uint16_t masks[2 * NEAR_IDS] = {255, 255, 255, 255, 255, 255, 255, 255}; /* then zeros */
    const __m128i mask = _mm_loadu_si128((const void *)(masks + NEAR_IDS - n));
    const __m128i found = _mm_and_si128(_mm_loadu_si128((const void *)pairs), mask);
    const __m128i above = _mm_subs_epu8(found, _mm_set1_epi8((char)(nknown - 1)));
    return _mm_movemask_epi8(_mm_cmpeq_epi8(above, _mm_setzero_si128())) != 0xffff;
#else
    int found = 0;
    for (unsigned i = 0; i < NEAR_IDS; i++) {
        found |= i < n && pairs[2 * i] >= nknown;
    }
    return found;
#endif
}

static void add_ids(table_job *job, const uint8_t *seen) {
    for (unsigned id = 0; id < 256; id++) {
        job->walk.ids[id >> 6] |= (uint64_t)seen[id] << (id & 63);
    }
}

/* A chain that is being walked: what the loop needs of it. */
typedef struct {
    uint64_t at, stop;
    mapix_entry *entries;
    chain *of;
} lane;

/* Walk all chains a record at a time in turn, so that up to NCHAINS misses are under way.  The processor has the
 * more of them under way the fewer instructions a record takes.  So one comparison finds that a chain ends or
 * that its next bytes are not a record, and another that all ids are below `nknown`: the walk has seen these. */
__attribute__((always_inline)) static inline void walk_lanes(const mapix_map *map, const uint32_t head_nbytes,
                                                             lane *lanes, unsigned nlanes, unsigned nknown) {
    const uint8_t *base = map->base;
    const unsigned near = nknown ? NEAR_IDS : 0;
    lane *end = lanes + nlanes;
    uint64_t n = 0; /* entries of each chain that still walks */
    for (; end != lanes && n < CHAIN_CAPACITY; n++) {
        for (lane *l = lanes; l < end;) {
            const uint64_t at = l->at, pairs_at = at + head_nbytes + 1;
            uint64_t shape;
            memcpy(&shape, base + at, sizeof shape);
            shape &= SHAPE_MASK;
            const unsigned nlabels = base[at + head_nbytes];
            const uint64_t image = (shape & 0xffff) * (shape >> 16 & 0xffff) * (shape >> 32);
            const uint64_t next = pairs_at + 2 * nlabels + (image ? image : NOWHERE);
            mapix_entry *entry = &l->entries[n];
            entry->at_n = at | (uint64_t)nlabels << MAPIX_AT_BITS;
            memcpy((uint8_t *)entry + sizeof entry->at_n, &shape, sizeof shape);
            MAPIX_PREFETCH(base, next);
            MAPIX_PREFETCH(base, next + head_nbytes + 2 * NEAR_IDS); /* and its ids */
            if (MAPIX_UNLIKELY(next >= l->stop)) {
                const int found = next <= map->nbytes;
                if (found) {
                    note_ids(map, pairs_at, nlabels, l->of->seen);
                }
                l->of->at = found ? next : at;
                l->of->n = n + (uint64_t)found;
                *l = *--end;
                continue;
            }
            if (MAPIX_UNLIKELY(nlabels > near || other_ids(base + pairs_at, nlabels, nknown))) {
                note_ids(map, pairs_at, nlabels, l->of->seen);
            }
            l->at = next;
            l++;
        }
    }
    for (lane *l = lanes; l < end; l++) { /* chains that are full */
        l->of->at = l->at;
        l->of->n = n;
    }
}

/* A chain ends before its goal where less than the longest head and labels are left of the file: these records
 * are hopped. */
static void walk_chains(const mapix_map *map, uint32_t head_nbytes, chain *chains, unsigned nknown) {
    const uint64_t end = map->nbytes > MOST_BEFORE ? map->nbytes - MOST_BEFORE : 0;
    lane lanes[NCHAINS];
    unsigned nlanes = 0;
    for (int k = 0; k < NCHAINS; k++) {
        chain *c = &chains[k];
        const uint64_t stop = c->goal < end ? c->goal : end;
        if (c->start != UINT64_MAX && c->at < stop) {
            lanes[nlanes++] = (lane){c->at, stop, c->entries, c};
        }
    }
    if (head_nbytes == 14) {
        walk_lanes(map, 14, lanes, nlanes, nknown);
    } else {
        walk_lanes(map, 6, lanes, nlanes, nknown);
    }
}

/* The entry of `c` at byte `at`, or c->n: entries are in ascending order. */
static uint64_t chain_find(const chain *c, uint64_t at) {
    uint64_t lo = 0, hi = c->n;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (entry_at(&c->entries[mid]) < at) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < c->n && entry_at(&c->entries[lo]) == at ? lo : c->n;
}

/* Take the entries of `c` from number `i` on, now proven, into the table. */
static void chain_take(table_job *job, const chain *c, uint64_t i) {
    const uint64_t left = job->capacity - job->nwritten;
    const uint64_t n = c->n - i < left ? c->n - i : left;
    const mapix_entry *from = c->entries + i;
    memcpy(job->entries + job->nwritten, from, n * sizeof *from);
    if (n == c->n) {
        add_ids(job, c->seen);
    } else { /* a part of the chain */
        uint8_t seen[NSEEN] = {0};
        for (uint64_t k = 0; k < n; k++) {
            note_ids(job->map, entry_at(&from[k]) + job->walk.head_nbytes + 1, entry_n(&from[k]), seen);
        }
        add_ids(job, seen);
    }
    job->nwritten += n;
    job->walk.nrecords += n;
    job->walk.at = n == c->n - i ? c->at : entry_at(&from[n]);
}

/* One window: start the chains, walk them, join them to what is proven. */
static int window(table_job *job, const habits *seen, uint64_t stop) {
    const mapix_map *map = job->map;
    chain chains[NCHAINS];
    const uint64_t begin = job->walk.at;
    uint64_t span = seen->mean_size * CHAIN_AIM;
    const uint64_t share = (stop - begin) / NCHAINS + 1;
    span = share < span ? share : span;
    for (int k = 0; k < NCHAINS; k++) {
        chain *c = &chains[k];
        const uint64_t from = begin + (uint64_t)k * span;
        c->entries = job->scratch + (uint64_t)k * CHAIN_CAPACITY;
        c->n = 0;
        memset(c->seen, 0, sizeof c->seen);
        c->start = k == 0 ? begin
                          : from < stop ? find_start(map, job->walk.head_nbytes, seen, from, stop)
                                        : UINT64_MAX;
        c->at = c->start;
        c->goal = from + span < stop ? from + span : stop;
    }
    for (int k = 0; k < NCHAINS; k++) { /* a chain walks to the next one's start, if it has one */
        for (int j = k + 1; j < NCHAINS; j++) {
            if (chains[j].start != UINT64_MAX) {
                chains[k].goal = chains[j].start;
                break;
            }
            chains[k].goal = chains[j].goal;
        }
    }
    walk_chains(map, job->walk.head_nbytes, chains, ids_without_gap(job->walk.ids));
    for (int k = 0; k < NCHAINS; k++) {
        const chain *c = &chains[k];
        if (c->start == UINT64_MAX) {
            continue;
        }
        uint64_t i = chain_find(c, job->walk.at);
        while (i == c->n && job->walk.at < c->goal && job->nwritten < job->capacity) {
            const int status = hop_one(job); /* a false start, or a chain that filled up */
            if (status) {
                return status;
            }
            i = chain_find(c, job->walk.at);
        }
        if (i < c->n) {
            chain_take(job, c, i);
        }
        if (job->nwritten == job->capacity) {
            break;
        }
        const int status = hop_until(job, c->goal);
        if (status) {
            return status;
        }
    }
    return MAPIX_OK;
}

/* Whether some of the stretches of a window from `at` on have to come from the disk. */
static int cold(const mapix_map *map, uint64_t at, uint64_t span, uint64_t stop) {
    for (uint64_t k = 1; k <= TESTED_PAGES; k++) {
        const uint64_t there = at + span / TESTED_PAGES * k;
        if (there < stop && !mapix_resident(map, there)) {
            return 1;
        }
    }
    return 0;
}

static int table_walk(void *arg) {
    table_job *job = arg;
    const mapix_map *map = job->map;
    const uint64_t end = map->nbytes;
    const uint64_t stop = job->stop_at < end ? job->stop_at : end;
    const uint64_t begin = job->walk.at;
    const uint64_t full = job->capacity;
    job->capacity = full < LEARN ? full : LEARN;
    int status = hop_until(job, stop);
    job->capacity = full;
    while (!status && job->walk.at < stop && job->nwritten < job->capacity) {
        const uint64_t recent = job->nwritten < LEARN ? job->nwritten : LEARN;
        const mapix_entry *from = job->entries + (job->nwritten - recent);
        habits seen = habits_of(from, recent, job->walk.at - entry_at(from));
        const habits early = habits_of(job->entries, recent, job->walk.at - begin);
        seen.max_size = seen.max_size > early.max_size ? seen.max_size : early.max_size;
        seen.max_h = seen.max_h > early.max_h ? seen.max_h : early.max_h;
        seen.max_w = seen.max_w > early.max_w ? seen.max_w : early.max_w;
        seen.max_c = seen.max_c > early.max_c ? seen.max_c : early.max_c;
        seen.max_n = seen.max_n > early.max_n ? seen.max_n : early.max_n;
        const uint64_t left = stop - job->walk.at;
        const uint64_t least = seen.mean_size * NCHAINS * PROVE;
        const uint64_t most = seen.mean_size * NCHAINS * CHAIN_AIM;
        const uint64_t span = left < most ? left : most;
        if (seen.mean_size >= SPARSE_NBYTES || left < least) {
            status = hop_until(job, job->walk.at + (left < least ? left : least));
        } else if (cold(map, job->walk.at, span, stop)) {
            status = hop_until(job, job->walk.at + span);
        } else {
            status = window(job, &seen, stop);
        }
    }
    return status;
}

static int table_call(const mapix_map *map, mapix_walk *walk, table_job *job,
                      mapix_guarded_fn fn, uint64_t *nwritten) {
    *nwritten = 0;
    if (walk->at > map->nbytes || (walk->head_nbytes != 6 && walk->head_nbytes != 14)) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = mapix_guarded_checked(map, fn, job);
    if (status == MAPIX_E_FAULT || status == MAPIX_E_CHANGED || status == MAPIX_E_SYSTEM) {
        walk->where.record = walk->nrecords;
        walk->where.at = walk->at;
        return status;
    }
    *walk = job->walk;
    *nwritten = job->nwritten;
    return status;
}

int mapix_vimh_table(const mapix_map *map, mapix_walk *walk, uint64_t stop_at,
                     mapix_entry *entries, uint64_t capacity, mapix_entry *scratch,
                     uint64_t *nwritten) {
    table_job job = {map, *walk, stop_at, entries, capacity, 0, scratch};
    return table_call(map, walk, &job, table_walk, nwritten);
}

int mapix_vimh_hop(const mapix_map *map, mapix_walk *walk, uint64_t stop_at,
                   mapix_entry *entries, uint64_t capacity, uint64_t *nwritten) {
    table_job job = {map, *walk, stop_at, entries, capacity, 0, NULL};
    return table_call(map, walk, &job, hop_all, nwritten);
}

uint64_t mapix_scratch_entries(void) {
    return (uint64_t)NCHAINS * CHAIN_CAPACITY;
}
