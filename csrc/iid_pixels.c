/* iid_pixels.c - masks, counts, overlaps and paintings of segments, a row of bits at a time.
 *
 * Segments of one region, which most are, are worked on where they lie; of several, rows are or-ed
 * together first, since nothing in the format keeps regions of a segment from sharing pixels. */
#include "iid.h"

enum { ROW_WORDS = 65536 / 64 + 1 };

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    const uint32_t *keys, *others;
    const uint16_t *windows;
    const int32_t *values;
    uint64_t n;
    const uint64_t *offsets;
    void *out;
    uint64_t out_nbytes;
    uint16_t *depth;
    uint32_t *counts;
    uint32_t option;
    uint64_t nwords;
    uint64_t row_a[ROW_WORDS], row_b[ROW_WORDS];
    mapix_where where;
} pixel_job;

/* A segment whose regions were all looked at; `only` is its region when it has one. */
typedef struct {
    iid_segment segment;
    iid_region only;
    uint64_t nregions;
} checked;

static int check_segment(const pixel_job *job, uint32_t key, checked *c, mapix_where *where) {
    int status = iid_segment_of(job->map, job->iid, key, &c->segment, where);
    if (!status) {
        status = iid_check_regions(&c->segment, &c->nregions, where);
    }
    if (!status && c->nregions == 1) {
        uint64_t at = 0;
        int more;
        status = iid_next_region(&c->segment, &at, &c->only, &more, where);
    }
    return status;
}

/* Column words of one row within a window's columns, from the region itself or from `room`. */
typedef struct {
    const checked *from;
    const uint64_t *words;
    uint32_t row, begin, end; /* columns that the words cover */
} row_of;

static row_of take_row(const checked *c, uint32_t row, const uint16_t window[4], uint64_t *room) {
    row_of r = {c, NULL, row, window[MINC], window[MAXC]};
    if (c->nregions != 1) {
        const uint64_t nwords = ((uint64_t)(r.end - r.begin) + 63) / 64;
        memset(room, 0, (nwords + 1) * sizeof *room);
        iid_or_row(&c->segment, row, window, room);
        r.words = room;
    }
    return r;
}

/* The next 64 pixels from column c on. */
static inline uint64_t row_word(const row_of *r, uint32_t c) {
    if (r->words) {
        return r->words[(c - r->begin) >> 6];
    }
    const iid_region *only = &r->from->only;
    if (r->row < only->box[MINR] || r->row >= only->box[MAXR] || c >= only->box[MAXC]) {
        return 0;
    }
    const uint32_t end = r->end < only->box[MAXC] ? r->end : only->box[MAXC];
    if (c >= only->box[MINC]) {
        return iid_row_word(only, r->row, c, end);
    }
    const uint32_t before = only->box[MINC] - c; /* pixels of the segment's box, not of the region's */
    return before >= 64 || only->box[MINC] >= end
               ? 0
               : iid_row_word(only, r->row, only->box[MINC], end) >> before;
}

/* --- masks ------------------------------------------------------------------------------------- */

/* 64 pixels as bytes. */
static inline void spread(uint8_t *to, uint64_t word, uint32_t n) {
    while (n >= 8) {
        /* the byte eight times, of each copy another bit, the highest first; then 1 for any bit */
        const uint64_t copies = (word >> 56) * UINT64_C(0x0101010101010101);
        const uint64_t bits = copies & UINT64_C(0x0102040810204080);
        const uint64_t ones = (bits + UINT64_C(0x7f7f7f7f7f7f7f7f)) >> 7;
        const uint64_t bytes = ones & UINT64_C(0x0101010101010101);
        memcpy(to, &bytes, 8);
        to += 8;
        word <<= 8;
        n -= 8;
    }
    for (uint32_t k = 0; k < n; k++) {
        to[k] = (uint8_t)(word >> 63);
        word <<= 1;
    }
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* Whole words of a region as bytes, 64 at a time; how many pixels that were. */
__attribute__((target("avx512f,avx512bw"))) static uint64_t spread_wide(uint8_t *to,
                                                                      const iid_region *r,
                                                                      uint64_t n) {
    const __m512i ones = _mm512_set1_epi8(1);
    uint64_t at = 0;
    for (; at + 64 <= n; at += 64) {
        uint64_t word; /* n is within the bits, so that these 8 bytes are, too */
        memcpy(&word, r->bits + at / 8, 8);
        /* the first pixel is the highest bit of its byte, a mask wants it lowest */
        word = (word >> 1 & UINT64_C(0x5555555555555555)) | (word & UINT64_C(0x5555555555555555)) << 1;
        word = (word >> 2 & UINT64_C(0x3333333333333333)) | (word & UINT64_C(0x3333333333333333)) << 2;
        word = (word >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f)) | (word & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4;
        _mm512_storeu_si512(to + at, _mm512_maskz_mov_epi8(word, ones));
    }
    return at;
}
#endif

/* A whole region into a mask of exactly its box: the bits are one line. */
static void spread_all(uint8_t *to, const iid_region *r) {
    const uint64_t n = (uint64_t)(r->box[MAXR] - r->box[MINR]) * (r->box[MAXC] - r->box[MINC]);
    uint64_t at = 0;
#if defined(__x86_64__) && defined(__GNUC__)
    if (mapix_simd(-1) > 1) {
        at = spread_wide(to, r, n);
    }
#endif
    for (; at < n; at += 64) {
        const uint64_t left = n - at;
        spread(to + at, iid_word(r->bits, r->nbytes, at), left < 64 ? (uint32_t)left : 64);
    }
}

static int mask_of(pixel_job *job, uint64_t i) {
    const uint16_t *window = job->windows + 4 * i;
    const uint64_t h = window[MAXR] - window[MINR], w = window[MAXC] - window[MINC];
    const uint64_t begin = job->offsets[i], end = job->offsets[i + 1];
    checked c;
    const int status = check_segment(job, job->keys[i], &c, &job->where);
    if (status) {
        return status;
    }
    if (begin > end || end > job->out_nbytes || end - begin != h * w) {
        return MAPIX_E_ARGUMENT;
    }
    uint8_t *to = (uint8_t *)job->out + begin;
    if (c.nregions == 1 && memcmp(c.only.box, window, 8) == 0) {
        spread_all(to, &c.only);
        return MAPIX_OK;
    }
    memset(to, 0, end - begin);
    uint16_t part[4];
    if (!iid_meet(c.segment.box, window, part)) {
        return MAPIX_OK;
    }
    for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
        const row_of r = take_row(&c, row, part, job->row_a);
        uint8_t *line = to + (row - window[MINR]) * w + (part[MINC] - window[MINC]);
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            const uint32_t left = (uint32_t)part[MAXC] - col;
            spread(line + (col - part[MINC]), row_word(&r, col), left < 64 ? left : 64);
        }
    }
    return MAPIX_OK;
}

/* --- counts ------------------------------------------------------------------------------------ */

static int count_of(pixel_job *job, uint64_t i) {
    checked c;
    const int status = check_segment(job, job->keys[i], &c, &job->where);
    uint16_t part[4];
    uint32_t found = 0;
    job->counts[i] = 0;
    if (status || !iid_meet(c.segment.box, job->windows + 4 * i, part)) {
        return status;
    }
    for (uint32_t row = part[MINR]; row < part[MAXR] && !(job->option && found); row++) {
        const row_of r = take_row(&c, row, part, job->row_a);
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            found += (uint32_t)__builtin_popcountll(row_word(&r, col));
        }
    }
    job->counts[i] = job->option ? found > 0 : found;
    return MAPIX_OK;
}

static int shared_of(pixel_job *job, uint64_t i) {
    checked a, b;
    int status = check_segment(job, job->keys[i], &a, &job->where);
    status = status ? status : check_segment(job, job->others[i], &b, &job->where);
    uint16_t part[4];
    uint32_t found = 0;
    job->counts[i] = 0;
    if (status || !iid_meet(a.segment.box, b.segment.box, part)) {
        return status;
    }
    for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
        const row_of ra = take_row(&a, row, part, job->row_a);
        const row_of rb = take_row(&b, row, part, job->row_b);
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            found += (uint32_t)__builtin_popcountll(row_word(&ra, col) & row_word(&rb, col));
        }
    }
    job->counts[i] = found;
    return MAPIX_OK;
}

/* --- paintings --------------------------------------------------------------------------------- */

static int paint_one(pixel_job *job, uint64_t i) {
    const uint16_t *window = job->windows;
    const uint64_t w = window[MAXC] - window[MINC];
    const int32_t value = job->values[i];
    checked c;
    const int status = check_segment(job, job->keys[i], &c, &job->where);
    uint16_t part[4];
    if (status || !iid_meet(c.segment.box, window, part)) {
        return status;
    }
    for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
        const row_of r = take_row(&c, row, part, job->row_a);
        const uint64_t line = (row - window[MINR]) * w;
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            uint64_t word = row_word(&r, col);
            const uint64_t to = line + col - window[MINC];
            int32_t *labels = (int32_t *)job->out + to;
            if (word == UINT64_MAX && !job->depth) {
                for (unsigned k = 0; k < 64; k++) {
                    labels[k] = value;
                }
                continue;
            }
            while (word) { /* runs of ones, left to right */
                const unsigned first = (unsigned)__builtin_clzll(word);
                const uint64_t behind = ~(word << first);
                const unsigned run = behind ? (unsigned)__builtin_clzll(behind) : 64 - first;
                for (unsigned k = first; k < first + run; k++) {
                    labels[k] = value;
                }
                for (unsigned k = first; job->depth && k < first + run; k++) {
                    const uint16_t deep = job->depth[to + k];
                    job->depth[to + k] = deep < UINT16_MAX ? (uint16_t)(deep + 1) : deep;
                }
                word = first + run >= 64 ? 0 : word & (UINT64_MAX >> (first + run));
            }
        }
    }
    return MAPIX_OK;
}

static int combine_one(pixel_job *job, uint64_t i) {
    const uint16_t *window = job->windows;
    checked c;
    const int status = check_segment(job, job->keys[i], &c, &job->where);
    if (status) {
        return status;
    }
    uint64_t *canvas = job->out;
    for (uint32_t row = window[MINR]; row < window[MAXR]; row++) {
        memset(job->row_b, 0, (job->nwords + 1) * sizeof *job->row_b);
        if (row >= c.segment.box[MINR] && row < c.segment.box[MAXR]) {
            iid_or_row(&c.segment, row, window, job->row_b);
        }
        uint64_t *line = canvas + (row - window[MINR]) * job->nwords;
        for (uint64_t k = 0; k < job->nwords; k++) {
            const uint64_t word = job->row_b[k];
            line[k] = job->option == 0   ? line[k] | word
                      : job->option == 1 ? line[k] & word
                                         : line[k] & ~word;
        }
    }
    return MAPIX_OK;
}

/* --- all of them -------------------------------------------------------------------------------- */

typedef struct {
    pixel_job *job;
    int (*one)(pixel_job *job, uint64_t i);
} pixel_run;

static int run_all(void *arg) {
    const pixel_run *run = arg;
    pixel_job *job = run->job;
    for (uint64_t i = 0; i < job->n; i++) {
        *(volatile uint64_t *)&job->where.record = job->keys[i]; /* for a fault */
        const int status = run->one(job, i);
        if (status) {
            return status;
        }
    }
    return MAPIX_OK;
}

static int run(pixel_job *job, int (*one)(pixel_job *, uint64_t), mapix_where *where) {
    if (!iid_usable(job->map, job->iid)) {
        return MAPIX_E_ARGUMENT;
    }
    pixel_run all = {job, one};
    job->where = (mapix_where){0};
    const int status = mapix_guarded_checked(job->map, run_all, &all);
    *where = job->where;
    return status;
}

static int upright(const uint16_t *windows, uint64_t n) {
    int good = 1;
    for (uint64_t i = 0; i < n; i++) {
        good &= iid_upright(windows + 4 * i);
    }
    return good;
}

int mapix_iid_masks(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys,
                    const uint16_t *windows, uint64_t n, const uint64_t *offsets, uint8_t *out,
                    uint64_t out_nbytes, mapix_where *where) {
    pixel_job job;
    job.map = map, job.iid = iid, job.keys = keys, job.windows = windows, job.n = n;
    job.offsets = offsets, job.out = out, job.out_nbytes = out_nbytes;
    return upright(windows, n) ? run(&job, mask_of, where) : MAPIX_E_ARGUMENT;
}

int mapix_iid_count(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys,
                    const uint16_t *windows, uint64_t n, uint32_t any, uint32_t *counts,
                    mapix_where *where) {
    pixel_job job;
    job.map = map, job.iid = iid, job.keys = keys, job.windows = windows, job.n = n;
    job.counts = counts, job.option = any;
    return upright(windows, n) ? run(&job, count_of, where) : MAPIX_E_ARGUMENT;
}

int mapix_iid_shared(const mapix_map *map, const mapix_iid *iid, const uint32_t *a,
                     const uint32_t *b, uint64_t n, uint32_t *counts, mapix_where *where) {
    pixel_job job;
    job.map = map, job.iid = iid, job.keys = a, job.others = b, job.n = n, job.counts = counts;
    return run(&job, shared_of, where);
}

int mapix_iid_paint(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys,
                    const int32_t *values, uint64_t n, const uint16_t *window, int32_t *labels,
                    uint16_t *depth, mapix_where *where) {
    pixel_job job;
    job.map = map, job.iid = iid, job.keys = keys, job.values = values, job.n = n;
    job.windows = window, job.out = labels, job.depth = depth;
    return iid_upright(window) ? run(&job, paint_one, where) : MAPIX_E_ARGUMENT;
}

int mapix_iid_combine(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                      uint32_t what, const uint16_t *window, uint64_t *canvas, uint64_t nwords,
                      mapix_where *where) {
    pixel_job job;
    job.map = map, job.iid = iid, job.keys = keys, job.n = n, job.windows = window;
    job.out = canvas, job.nwords = nwords, job.option = what;
    if (!iid_upright(window) || what > 2 ||
        nwords != ((uint64_t)(window[MAXC] - window[MINC]) + 63) / 64) {
        return MAPIX_E_ARGUMENT;
    }
    return run(&job, combine_one, where);
}
