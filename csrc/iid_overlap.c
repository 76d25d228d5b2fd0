/* iid_overlap.c - how many pixels segments share: of given pairs, and of all that do. */
#include "iid_rows.h"
#include "tree.h"

/* --- two segments: what is done where nothing faster can be, and the oracle of it ------------------- */

enum { A_WORD = 8 }; /* work that a word of a region is, put onto a canvas, in nanoseconds or so */

typedef struct {
    const mapix_canvas *canvas;
    uint64_t work; /* regions walked, words gone through */
    uint64_t part; /* that was read last, for an error */
    mapix_where where;
} shared_job;

/* A segment: its file, and its key there. */
typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    uint64_t part;
    uint32_t key;
} located;

/* Before a segment is read: what an error or a fault is about. */
static inline void reading(shared_job *job, const located *of) {
    *(volatile uint64_t *)&job->part = of->part;
    *(volatile uint64_t *)&job->where.record = of->key;
}

/* One region each: pixels that both have in a part of both. */
static uint64_t count_both_parts(const iid_region *a, const iid_region *b, const uint16_t part[4]) {
    uint64_t found = 0;
    for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            found += (uint64_t)__builtin_popcountll(iid_row_word(a, row, col, part[MAXC]) &
                                                    iid_row_word(b, row, col, part[MAXC]));
        }
    }
    return found;
}

static int shared_of(shared_job *job, const located *one, const located *two, uint32_t *count) {
    checked a, b;
    uint16_t part[4];
    uint64_t found = 0;
    *count = 0;
    reading(job, one);
    int status = iid_segment_of(one->map, one->iid, one->key, &a.segment, &job->where);
    if (status) {
        return status;
    }
    reading(job, two);
    status = iid_segment_of(two->map, two->iid, two->key, &b.segment, &job->where);
    if (status) {
        return status;
    }
    (void)iid_meet(a.segment.box, b.segment.box, part);
    status = check_regions(&b, part, &job->where);
    if (status) {
        return status;
    }
    reading(job, one);
    status = check_regions(&a, part, &job->where);
    if (status) {
        return status;
    }
    job->work += (a.segment.regions_nbytes + b.segment.regions_nbytes) / 4 + A_WORD * (a.nwords + b.nwords);
    if (!a.nnear || !b.nnear || !iid_meet(a.bounds, b.bounds, part)) {
        return MAPIX_OK;
    }
    if (a.nnear == 1 && b.nnear == 1) {
        found = count_both_parts(&a.near[0], &b.near[0], part);
    } else {
        uint16_t band[4];
        uint64_t nwords;
        for (uint32_t row = part[MINR]; next_band(part, job->canvas, &row, band, &nwords);) {
            (void)use_canvas(&a, band, job->canvas->words, NULL, nwords, CANVAS_ADD);
            found += use_canvas(&b, band, job->canvas->words, NULL, nwords, CANVAS_TAKE);
            (void)use_canvas(&a, band, job->canvas->words, NULL, nwords, CANVAS_CLEAR);
        }
    }
    *count = (uint32_t)found;
    return MAPIX_OK;
}

typedef struct {
    shared_job job;
    const mapix_map *map;
    const mapix_iid *iid;
    const uint32_t *a, *b;
    uint64_t n;
    uint32_t *counts;
} pairs_job;

static int share_pairs(void *arg) {
    pairs_job *pairs = arg;
    const mapix_map *map = pairs->map;
    const mapix_iid *iid = pairs->iid;
    for (uint64_t i = 0; i < pairs->n; i++) {
        if (i + ROWS_AHEAD < pairs->n) {
            iid_prefetch_row(map, iid, pairs->a[i + ROWS_AHEAD]);
            iid_prefetch_row(map, iid, pairs->b[i + ROWS_AHEAD]);
            iid_prefetch(map, iid, pairs->a[i + SEGMENTS_AHEAD], MOST_FETCHED);
            iid_prefetch(map, iid, pairs->b[i + SEGMENTS_AHEAD], MOST_FETCHED);
        }
        const located one = {map, iid, 0, pairs->a[i]}, two = {map, iid, 0, pairs->b[i]};
        const int status = shared_of(&pairs->job, &one, &two, &pairs->counts[i]);
        if (status) {
            return status;
        }
    }
    return MAPIX_OK;
}

int mapix_iid_shared(const mapix_map *map, const mapix_iid *iid, const uint32_t *a,
                     const uint32_t *b, uint64_t n, const mapix_canvas *canvas, uint32_t *counts,
                     mapix_where *where) {
    if (!iid_usable(map, iid) || canvas->nwords < MAPIX_CANVAS) {
        return MAPIX_E_ARGUMENT;
    }
    pairs_job job = {.job = {.canvas = canvas}, .map = map, .iid = iid};
    job.a = a, job.b = b, job.n = n, job.counts = counts;
    const int status = mapix_guarded_checked(map, share_pairs, &job);
    *where = job.job.where;
    return status;
}

/* --- where the pixels of segments are -------------------------------------------------------------- */

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    const uint32_t *keys;
    uint64_t n;
    mapix_place *places;
    mapix_where where;
} places_job;

/* Of the only region that has pixels, if it can be read eight bytes at a time. */
static void set_place(const places_job *job, const iid_segment *s, const iid_region *only,
                      uint64_t nfull, mapix_place *place) {
    const uint64_t at = nfull == 1 ? (uint64_t)(only->bits - job->map->base) : 0;
    const int roomy = nfull == 1 && job->map->nbytes - at - only->nbytes >= 8;
    place->at = !nfull ? 0 : roomy ? at : MAPIX_SEVERAL;
    memcpy(place->box, nfull == 1 ? only->box : s->box, 8);
}

static int find_places(void *arg) {
    places_job *job = arg;
    for (uint64_t i = 0; i < job->n; i++) {
        if (i + ROWS_AHEAD < job->n) {
            iid_prefetch_row(job->map, job->iid, job->keys[i + ROWS_AHEAD]);
            iid_prefetch(job->map, job->iid, job->keys[i + SEGMENTS_AHEAD], 64);
        }
        *(volatile uint64_t *)&job->where.record = job->keys[i]; /* for a fault */
        iid_segment s;
        int status = iid_segment_of(job->map, job->iid, job->keys[i], &s, &job->where), more = 1;
        uint64_t at = 0, nfull = 0;
        iid_region r, only = {.nbytes = 0};
        while (!status && !(status = iid_next_region(&s, &at, &r, &more, &job->where)) && more) {
            nfull += r.nbytes > 0;
            only = r.nbytes ? r : only;
        }
        if (status) {
            return status;
        }
        set_place(job, &s, &only, nfull, &job->places[i]);
    }
    return MAPIX_OK;
}

int mapix_iid_places(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                     mapix_place *places, mapix_where *where) {
    if (!iid_usable(map, iid)) {
        return MAPIX_E_ARGUMENT;
    }
    places_job job = {.map = map, .iid = iid, .keys = keys, .n = n, .places = places};
    const int status = mapix_guarded_checked(map, find_places, &job);
    *where = job.where;
    return status;
}

/* --- all pairs ------------------------------------------------------------------------------------- */

enum { CHUNK = 256, NEXT = 8, MOST_WORK = 1 << 25, A_PAIR = 16, A_LEADER = 32, A_UNIT = 16 };
enum { STEP = 8 };
enum { FEW_MET = 9 }; /* copies of segments that meet fewer others are not worth making */
enum { TIMES = 32 }; /* all of a segment is made where it has no more words than so many times those compared */

/* The pixels in a box, in columns of 64 that begin at multiples of 64 of the picture: words of a column lie one
 * after the other, a word per row, the leftmost pixel in the highest bit.  Pixels outside of the box are zeros.
 * So words of two segments are compared as they are, whatever their boxes.  A column ends in zeros, so that rows
 * are compared STEP at a time: where one segment ends, the other one is compared with zeros. */
typedef struct {
    uint64_t *words;
    uint64_t stride; /* words of a column */
    uint32_t first;  /* column */
    uint16_t box[4];
} strips;

typedef struct {
    const mapix_iid_join *join;
    mapix_iid_pairs *pairs;
    const mapix_map *map;
    const mapix_iid *iid;
    tree_shape shape;
    uint64_t work;  /* done in this call: A_UNIT bytes cleared, a word read or compared */
    strips leader;  /* the segment that all others of this turn are compared with; no words: not made yet */
    uint64_t spent; /* words of parts of it that were compared without its strips */
    iid_bitmap packed; /* the leader as the file has it; only if is_packed: if it is of one region */
    int is_packed;
    int few; /* whether it meets fewer than FEW_MET others, and was not copied for another leader */
    uint64_t lap;   /* words that were taken before the ring was used from its begin the last time */
    uint32_t met[CHUNK];
    shared_job slow;
} join_job;

static inline const mapix_map *map_of(const join_job *job, uint64_t leaf) {
    const mapix_iid_join *join = job->join;
    return join->parts ? join->parts[join->which[leaf]].map : job->map;
}

static located located_at(const join_job *job, uint64_t leaf) {
    const mapix_iid_join *join = job->join;
    const uint32_t key = join->keys[leaf];
    if (!join->parts) {
        return (located){job->map, job->iid, 0, key};
    }
    const uint32_t k = join->which[leaf];
    return (located){join->parts[k].map, &join->iids[k], k, (uint32_t)(key - join->parts[k].begin)};
}

static int in_map(const join_job *job, uint64_t leaf) {
    const mapix_place *p = &job->join->places[leaf];
    const uint64_t nbytes = map_of(job, leaf)->nbytes;
    const uint64_t h = p->box[MAXR] - p->box[MINR], w = p->box[MAXC] - p->box[MINC];
    const uint64_t own = (h * w + 7) / 8 + 8;
    return iid_upright(p->box) && p->at <= nbytes && own <= nbytes - p->at;
}

/* A segment of one region, as the file has it. */
static inline iid_bitmap bitmap_of(const join_job *job, uint64_t leaf) {
    const mapix_place *p = &job->join->places[leaf];
    const uint64_t w = p->box[MAXC] - p->box[MINC];
    return (iid_bitmap){map_of(job, leaf)->base + p->at, w, {p->box[0], p->box[1], p->box[2], p->box[3]}};
}

/* Words of the strips of a box that has a pixel. */
static inline uint64_t strips_nwords(const uint16_t box[4]) {
    const uint32_t first = box[MINC] >> 6, last = (uint32_t)(box[MAXC] - 1) >> 6;
    return ((uint64_t)(box[MAXR] - box[MINR]) + STEP - 1) * (last - first + 1);
}

static inline strips strips_at(uint64_t *words, const uint16_t box[4]) {
    const uint64_t h = box[MAXR] - box[MINR];
    return (strips){words, h + STEP - 1, box[MINC] >> 6, {box[0], box[1], box[2], box[3]}};
}

static inline uint64_t *strips_word(const strips *s, uint32_t column, uint32_t row) {
    return s->words + (column - s->first) * s->stride + (row - s->box[MINR]);
}

/* Whether a leaf is where its place says, and has a box with pixels. */
static int has_place(const join_job *job, uint64_t leaf) {
    const mapix_place *p = &job->join->places[leaf];
    return p->box[MINR] < p->box[MAXR] && p->box[MINC] < p->box[MAXC] &&
           (p->at == MAPIX_SEVERAL || in_map(job, leaf));
}

/* Where in the ring a leaf is; null if nowhere. */
MAPIX_INLINE uint64_t *kept_words(const join_job *job, uint64_t leaf) {
    const uint64_t all = job->join->canvas_nwords, begin = job->join->kept[leaf] - 1;
    if (!job->join->kept[leaf] || job->pairs->taken - begin > all) {
        return NULL;
    }
    return job->join->canvas + all + (begin >= job->lap ? begin - job->lap : begin + all - job->lap);
}

/* Whether strips that are not made yet are used so much that making them takes little of it: those of the leader,
 * if it has none, and those of another leaf, which has `words` or null.  Both are of one region. */
static inline int are_worth(join_job *job, uint32_t other, const uint64_t *words, const uint16_t part[4]) {
    const mapix_place *places = job->join->places;
    const uint64_t nwords = strips_nwords(part);
    if (!words && strips_nwords(places[other].box) > TIMES * nwords) {
        return 0;
    }
    job->spent += nwords;
    return job->leader.words || strips_nwords(places[job->pairs->leader].box) <= TIMES * job->spent;
}

MAPIX_INLINE void prefetch_place(const join_job *job, uint32_t leaf) {
    const mapix_place *p = &job->join->places[leaf];
    const uint64_t *words = job->few ? NULL : kept_words(job, leaf);
    const uint16_t top = job->join->places[job->pairs->leader].box[MINR];
    const uint64_t down = top > p->box[MINR] ? (uint64_t)(top - p->box[MINR]) : 0;
    if (words) {
        __builtin_prefetch(words + down, 0, 3);
        __builtin_prefetch(words + down + STEP, 0, 3);
        return;
    }
    const mapix_map *map = map_of(job, leaf);
    if (p->at >= map->nbytes) {
        return;
    }
    const uint64_t h = (uint64_t)(p->box[MAXR] - p->box[MINR]), w = (uint64_t)(p->box[MAXC] - p->box[MINC]);
    const uint8_t *bits = map->base + p->at;
    if (job->few || h * w / 8 >= MOST_FETCHED) {
        __builtin_prefetch(bits + down * w / 8, 0, 3);
        __builtin_prefetch(bits + down * w / 8 + 64, 0, 3);
        return;
    }
    for (uint64_t k = 0; k <= h * w / 8; k += 64) {
        __builtin_prefetch(bits + k, 0, 3);
    }
}

#define BODY "tree_body.h"
#include "each_level.h"
#define BODY "iid_overlap_body.h"
#include "each_level.h"

/* Whether every leaf has a file, and every file its sections. */
static int parts_usable(const mapix_iid_join *join) {
    if (!join->parts) {
        return 1;
    }
    for (uint64_t k = 0; k < join->nparts; k++) {
        if (!iid_usable(join->parts[k].map, &join->iids[k])) {
            return 0;
        }
    }
    for (uint64_t i = 0; i < join->n; i++) {
        if (join->which[i] >= join->nparts || join->keys[i] < join->parts[join->which[i]].begin) {
            return 0;
        }
    }
    return 1;
}

/* join_all, guarded; whatever it found, a file that changed is the better explanation. */
static int join_guarded(join_job *job) {
    const mapix_iid_join *join = job->join;
    if (!join->parts) {
        return mapix_guarded_checked(job->map, MAPIX_AT_LEVEL(join_all), job);
    }
    const int status = mapix_guarded_parts(join->parts, join->nparts, MAPIX_AT_LEVEL(join_all), job);
    for (uint64_t k = 0; k < join->nparts && status != MAPIX_E_SYSTEM; k++) {
        const int moved = mapix_map_check(join->parts[k].map);
        if (moved) {
            job->slow.part = k;
            return moved;
        }
    }
    return status;
}

int mapix_iid_overlaps(const mapix_map *map, const mapix_iid *iid, const mapix_iid_join *join,
                       mapix_iid_pairs *pairs, mapix_where *where) {
    if ((!join->parts && !iid_usable(map, iid)) || join->n > UINT32_MAX || pairs->n > pairs->capacity ||
        join->rows.nwords < MAPIX_CANVAS || !parts_usable(join)) {
        return MAPIX_E_ARGUMENT;
    }
    join_job job;
    job.join = join, job.pairs = pairs, job.map = map, job.iid = iid;
    job.shape = tree_shape_of(join->n), job.work = 0, job.leader = (strips){0}, job.spent = 0;
    job.few = 0, job.is_packed = 0;
    job.lap = join->canvas_nwords ? pairs->taken - pairs->taken % join->canvas_nwords : 0;
    job.slow = (shared_job){.canvas = &join->rows};
    const int status = join_guarded(&job);
    pairs->work += job.work + job.slow.work;
    pairs->failed = job.slow.part;
    *where = job.slow.where;
    return status;
}

/* --- in the order of keys --------------------------------------------------------------------------- */

enum { FEWEST_PAIRS = 4, FEW_PAIRS = 128, PAIR_DIGIT = 8, PAIR_BUCKETS = 1 << PAIR_DIGIT };

/* The pairs of one segment, which are many, by partners below `end`.  `scratch` has 2 n words. */
static void sort_many(uint32_t *partners, uint32_t *pixels, uint64_t n, uint64_t end, uint64_t *scratch) {
    uint64_t *from = scratch, *to = scratch + n;
    for (uint64_t k = 0; k < n; k++) {
        from[k] = (uint64_t)partners[k] << 32 | pixels[k];
    }
    for (unsigned shift = 0; shift < 32 && (end - 1) >> shift; shift += PAIR_DIGIT) {
        uint64_t counts[PAIR_BUCKETS] = {0}, sum = 0;
        for (uint64_t k = 0; k < n; k++) {
            counts[from[k] >> (32 + shift) & (PAIR_BUCKETS - 1)]++;
        }
        for (unsigned k = 0; k < PAIR_BUCKETS; k++) {
            const uint64_t here = counts[k];
            counts[k] = sum;
            sum += here;
        }
        for (uint64_t k = 0; k < n; k++) {
            to[counts[from[k] >> (32 + shift) & (PAIR_BUCKETS - 1)]++] = from[k];
        }
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    for (uint64_t k = 0; k < n; k++) {
        partners[k] = (uint32_t)(from[k] >> 32);
        pixels[k] = (uint32_t)from[k];
    }
}

#define BODY "iid_pairs_body.h"
#include "each_level.h"

/* Pairs come in the order of the tree, so those of one segment are near one another.  Therefore putting them in the
 * order of i does not access memory at random. */
int mapix_pairs_sort(const mapix_pair_list *lists, uint64_t nlists, const uint32_t *keys, uint64_t nkeys,
                     uint64_t *scratch, uint32_t *columns, uint64_t capacity) {
    uint64_t *ends = scratch, n = 0;
    memset(ends, 0, (nkeys + 1) * sizeof *ends);
    for (uint64_t list = 0; list < nlists; list++) {
        for (uint64_t k = 0; k < lists[list].n; k++) {
            const uint32_t *pair = lists[list].pairs + 3 * k;
            if (pair[0] >= nkeys || pair[1] >= nkeys || n == capacity) {
                return MAPIX_E_ARGUMENT;
            }
            ends[pair[0] + 1]++;
            n++;
        }
    }
    for (uint64_t i = 0; i < nkeys; i++) {
        ends[i + 1] += ends[i];
    }
    for (uint64_t list = 0; list < nlists; list++) {
        for (uint64_t k = 0; k < lists[list].n; k++) {
            const uint32_t *pair = lists[list].pairs + 3 * k;
            const uint64_t at = ends[pair[0]]++;
            columns[capacity + at] = pair[1];
            columns[2 * capacity + at] = pair[2];
        }
    }
    MAPIX_AT_LEVEL(sort_partners)(keys, nkeys, ends, scratch + nkeys + 1, columns, capacity);
    return MAPIX_OK;
}
