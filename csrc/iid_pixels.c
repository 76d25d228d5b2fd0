/* iid_pixels.c - masks, counts, overlaps and paintings of segments, a row of bits at a time.
 *
 * Segments of one region, which most are, are worked on where they lie; of several, rows are or-ed
 * together first, since nothing in the format keeps regions of a segment from sharing pixels. */
#include "iid.h"

enum { ROW_WORDS = 65536 / 64 + 1, ROWS_AHEAD = 12, SEGMENTS_AHEAD = 4, MOST_FETCHED = 512, MOST_NEAR = 24 };

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

/* A segment whose regions were all looked at, and those of them that meet a window. */
typedef struct {
    iid_segment segment;
    uint64_t nregions;
    unsigned nnear; /* as many as there was room for */
    int all_near;   /* whether there was room for all of them */
    iid_region near[MOST_NEAR];
} checked;

/* Walk the regions of c->segment. */
static int check_regions(checked *c, const uint16_t window[4], mapix_where *where) {
    uint64_t at = 0;
    int more = 1, status;
    iid_region r;
    c->nregions = c->nnear = 0;
    c->all_near = 1;
    while (!(status = iid_next_region(&c->segment, &at, &r, &more, where)) && more) {
        uint16_t part[4];
        c->nregions++;
        if (!iid_meet(r.box, window, part)) {
            continue;
        }
        if (c->nnear < MOST_NEAR) {
            c->near[c->nnear++] = r;
        } else {
            c->all_near = 0;
        }
    }
    return status;
}

static int check_segment(const pixel_job *job, uint32_t key, const uint16_t window[4], checked *c,
                         mapix_where *where) {
    const int status = iid_segment_of(job->map, job->iid, key, &c->segment, where);
    return status ? status : check_regions(c, window, where);
}

/* Column words of one row within a window's columns, from the region itself or from `room`. */
typedef struct {
    const checked *from;
    const uint64_t *words;
    uint32_t row, begin, end; /* columns that the words cover */
} row_of;

static row_of take_row(const checked *c, uint32_t row, const uint16_t window[4], uint64_t *room) {
    row_of r = {c, NULL, row, window[MINC], window[MAXC]};
    if (c->nnear == 1) {
        return r;
    }
    const uint64_t nwords = ((uint64_t)(r.end - r.begin) + 63) / 64;
    memset(room, 0, (nwords + 1) * sizeof *room);
    if (c->all_near) {
        for (unsigned k = 0; k < c->nnear; k++) {
            iid_or_region(&c->near[k], row, window, room);
        }
    } else {
        iid_or_row(&c->segment, row, window, room);
    }
    r.words = room;
    return r;
}

/* The next 64 pixels from column c on. */
static inline uint64_t row_word(const row_of *r, uint32_t c) {
    if (r->words) {
        return r->words[(c - r->begin) >> 6];
    }
    const iid_region *only = &r->from->near[0];
    if (r->row < only->box[MINR] || r->row >= only->box[MAXR] || c >= only->box[MAXC]) {
        return 0;
    }
    const uint32_t end = r->end < only->box[MAXC] ? r->end : only->box[MAXC];
    if (c >= only->box[MINC]) {
        return iid_row_word(only, r->row, c, end);
    }
    const uint32_t before = only->box[MINC] - c; /* pixels of the window, not of the region */
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

/* The first pixel is the highest bit of a word; masks want it lowest. */
static inline uint64_t reversed_bytes(uint64_t word) {
    word = (word >> 1 & UINT64_C(0x5555555555555555)) | (word & UINT64_C(0x5555555555555555)) << 1;
    word = (word >> 2 & UINT64_C(0x3333333333333333)) | (word & UINT64_C(0x3333333333333333)) << 2;
    return (word >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f)) | (word & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4;
}

/* A value where a word has ones; only those are written. */
__attribute__((target("avx512f"))) static void paint_wide(int32_t *labels, uint64_t word,
                                                          int32_t value) {
    const __m512i all = _mm512_set1_epi32(value);
    uint64_t ones = reversed_bytes(__builtin_bswap64(word));
    for (unsigned k = 0; ones; k += 16, ones >>= 16) {
        _mm512_mask_storeu_epi32(labels + k, (__mmask16)ones, all);
    }
}

/* Ones as bytes where a word has them; nothing else is written. */
__attribute__((target("avx512f,avx512bw"))) static void set_wide(uint8_t *to, uint64_t word) {
    _mm512_mask_storeu_epi8(to, reversed_bytes(__builtin_bswap64(word)), _mm512_set1_epi8(1));
}

/* Whole words of a region as bytes, 64 at a time; how many pixels that were. */
__attribute__((target("avx512f,avx512bw"))) static uint64_t spread_wide(uint8_t *to,
                                                                      const iid_region *r,
                                                                      uint64_t n) {
    const __m512i ones = _mm512_set1_epi8(1);
    uint64_t at = 0;
    for (; at + 64 <= n; at += 64) {
        uint64_t word; /* n is within the bits, so that these 8 bytes are, too */
        memcpy(&word, r->bits + at / 8, 8);
        _mm512_storeu_si512(to + at, _mm512_maskz_mov_epi8(reversed_bytes(word), ones));
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

/* A region into a mask of a window, which may have pixels of others. */
static void or_region(uint8_t *to, const iid_region *r, const uint16_t window[4], int wide) {
    const uint64_t w = window[MAXC] - window[MINC];
    uint16_t part[4];
    if (!iid_meet(r->box, window, part)) {
        return;
    }
    for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
        uint8_t *line = to + (row - window[MINR]) * w;
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            const uint32_t left = (uint32_t)part[MAXC] - col, n = left < 64 ? left : 64;
            const uint64_t word = iid_row_word(r, row, col, part[MAXC]);
#if defined(__x86_64__) && defined(__GNUC__)
            if (wide) {
                set_wide(line + (col - window[MINC]), word);
                continue;
            }
#else
            (void)wide;
#endif
            uint8_t pixels[64];
            spread(pixels, word, n);
            for (uint32_t k = 0; k < n; k++) {
                line[col - window[MINC] + k] |= pixels[k];
            }
        }
    }
}

static int mask_of(pixel_job *job, uint64_t i) {
    const uint16_t *window = job->windows + 4 * i;
    const uint64_t h = window[MAXR] - window[MINR], w = window[MAXC] - window[MINC];
    const uint64_t begin = job->offsets[i], end = job->offsets[i + 1];
    checked c;
    const int status = check_segment(job, job->keys[i], window, &c, &job->where);
    if (status) {
        return status;
    }
    if (begin > end || end > job->out_nbytes || end - begin != h * w) {
        return MAPIX_E_ARGUMENT;
    }
    uint8_t *to = (uint8_t *)job->out + begin;
    if (c.nregions == 1 && c.nnear == 1 && memcmp(c.near[0].box, window, 8) == 0) {
        spread_all(to, &c.near[0]);
        return MAPIX_OK;
    }
    memset(to, 0, end - begin);
    const int wide = mapix_simd(-1) > 1;
    uint64_t at = 0;
    int more = 1;
    iid_region r;
    while (!iid_next_region(&c.segment, &at, &r, &more, &job->where) && more) {
        or_region(to, &r, window, wide);
    }
    return MAPIX_OK;
}

/* --- counts ------------------------------------------------------------------------------------ */

static int count_of(pixel_job *job, uint64_t i) {
    checked c;
    const int status =
        check_segment(job, job->keys[i], job->windows + 4 * i, &c, &job->where);
    uint16_t part[4];
    uint32_t found = 0;
    job->counts[i] = 0;
    if (status || !c.nnear || !iid_meet(c.segment.box, job->windows + 4 * i, part)) {
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
    uint16_t part[4];
    uint32_t found = 0;
    job->counts[i] = 0;
    int status = iid_segment_of(job->map, job->iid, job->keys[i], &a.segment, &job->where);
    status = status ? status
                    : iid_segment_of(job->map, job->iid, job->others[i], &b.segment, &job->where);
    if (status) {
        return status;
    }
    const int meet = iid_meet(a.segment.box, b.segment.box, part);
    status = check_regions(&a, part, &job->where);
    status = status ? status : check_regions(&b, part, &job->where);
    if (status || !meet || !a.nnear || !b.nnear) {
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

/* A value to up to 64 labels, where a word has ones. */
static inline void paint_word(int32_t *labels, uint64_t word, int32_t value, int wide) {
#if defined(__x86_64__) && defined(__GNUC__)
    if (wide) {
        paint_wide(labels, word, value);
        return;
    }
#else
    (void)wide;
#endif
    while (word) { /* runs of ones, left to right */
        const unsigned first = (unsigned)__builtin_clzll(word);
        const uint64_t behind = ~(word << first);
        const unsigned run = behind ? (unsigned)__builtin_clzll(behind) : 64 - first;
        for (unsigned k = first; k < first + run; k++) {
            labels[k] = value;
        }
        word = first + run >= 64 ? 0 : word & (UINT64_MAX >> (first + run));
    }
}

static void deepen(uint16_t *depth, uint64_t word) {
    for (; word; word &= word - 1) {
        uint16_t *d = depth + (63 - (unsigned)__builtin_ctzll(word));
        *d = *d < UINT16_MAX ? (uint16_t)(*d + 1) : *d;
    }
}

/* One region after the other: it does not matter which of them paints a pixel. */
static void paint_regions(pixel_job *job, const checked *c, int32_t value) {
    const uint16_t *window = job->windows;
    const uint64_t w = window[MAXC] - window[MINC];
    const int wide = (int)job->option;
    uint64_t at = 0;
    int more = 1;
    iid_region r;
    while (!iid_next_region(&c->segment, &at, &r, &more, &job->where) && more) {
        uint16_t part[4];
        if (!iid_meet(r.box, window, part)) {
            continue;
        }
        for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
            int32_t *line = (int32_t *)job->out + (row - window[MINR]) * w;
            for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
                const uint64_t word = iid_row_word(&r, row, col, part[MAXC]);
                paint_word(line + (col - window[MINC]), word, value, wide);
            }
        }
    }
}

static int paint_one(pixel_job *job, uint64_t i) {
    const uint16_t *window = job->windows;
    const uint64_t w = window[MAXC] - window[MINC];
    checked c;
    const int status = check_segment(job, job->keys[i], window, &c, &job->where);
    uint16_t part[4];
    if (status || !iid_meet(c.segment.box, window, part)) {
        return status;
    }
    paint_regions(job, &c, job->values[i]);
    for (uint32_t row = part[MINR]; job->depth && row < part[MAXR]; row++) {
        const row_of r = take_row(&c, row, part, job->row_a); /* a pixel of two regions counts once */
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            const uint64_t to = (row - window[MINR]) * w + col - window[MINC];
            deepen(job->depth + to, row_word(&r, col));
        }
    }
    return MAPIX_OK;
}

static int combine_one(pixel_job *job, uint64_t i) {
    const uint16_t *window = job->windows;
    checked c;
    const int status = check_segment(job, job->keys[i], window, &c, &job->where);
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

/* The lookup row of a key that is to come into the cache, or the segment that it leads to. */
MAPIX_INLINE void fetch_row(const pixel_job *job, uint32_t key) {
    if (key < job->iid->nsegments) {
        __builtin_prefetch(job->map->base + job->iid->lut_at + (uint64_t)key * LUT_ROW, 0, 3);
    }
}

MAPIX_INLINE void fetch_segment(const pixel_job *job, uint32_t key) {
    if (key >= job->iid->nsegments) {
        return;
    }
    const iid_row row = iid_row_of(job->map, job->iid, key);
    const uint64_t end = (uint64_t)row.segment_at + row.segment_nbytes;
    if (end <= job->iid->segs_nbytes) {
        const uint8_t *p = job->map->base + job->iid->segs_at + row.segment_at;
        for (uint32_t k = 0; k < row.segment_nbytes && k < MOST_FETCHED; k += 64) {
            __builtin_prefetch(p + k, 0, 3);
        }
    }
}

static int run_all(void *arg) {
    const pixel_run *run = arg;
    pixel_job *job = run->job;
    for (uint64_t i = 0; i < job->n; i++) {
        if (i + ROWS_AHEAD < job->n) {
            fetch_row(job, job->keys[i + ROWS_AHEAD]);
            fetch_segment(job, job->keys[i + SEGMENTS_AHEAD]);
            if (job->others) {
                fetch_row(job, job->others[i + ROWS_AHEAD]);
                fetch_segment(job, job->others[i + SEGMENTS_AHEAD]);
            }
        }
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
    job.others = NULL;
    job.offsets = offsets, job.out = out, job.out_nbytes = out_nbytes;
    return upright(windows, n) ? run(&job, mask_of, where) : MAPIX_E_ARGUMENT;
}

int mapix_iid_count(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys,
                    const uint16_t *windows, uint64_t n, uint32_t any, uint32_t *counts,
                    mapix_where *where) {
    pixel_job job;
    job.map = map, job.iid = iid, job.keys = keys, job.windows = windows, job.n = n;
    job.others = NULL;
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
    job.others = NULL;
    job.windows = window, job.out = labels, job.depth = depth;
    job.option = mapix_simd(-1) > 1;
    return iid_upright(window) ? run(&job, paint_one, where) : MAPIX_E_ARGUMENT;
}

int mapix_iid_combine(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                      uint32_t what, const uint16_t *window, uint64_t *canvas, uint64_t nwords,
                      mapix_where *where) {
    pixel_job job;
    job.map = map, job.iid = iid, job.keys = keys, job.n = n, job.windows = window;
    job.others = NULL;
    job.out = canvas, job.nwords = nwords, job.option = what;
    if (!iid_upright(window) || what > 2 ||
        nwords != ((uint64_t)(window[MAXC] - window[MINC]) + 63) / 64) {
        return MAPIX_E_ARGUMENT;
    }
    return run(&job, combine_one, where);
}
