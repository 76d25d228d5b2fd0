/* iid_masks.c - masks, counts, and unions of segments. */
#include "iid_rows.h"

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    const uint32_t *keys;
    const uint16_t *windows;
    uint64_t n;
    const uint64_t *offsets;
    void *out;
    uint64_t out_nbytes;
    uint32_t *counts;
    uint32_t option;
    uint64_t nwords;
    uint64_t row[ROW_WORDS];
    mapix_where where;
} pixel_job;

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
    const int status = check_segment(job->map, job->iid, job->keys[i], window, &c, &job->where);
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
        check_segment(job->map, job->iid, job->keys[i], job->windows + 4 * i, &c, &job->where);
    uint16_t part[4];
    uint32_t found = 0;
    job->counts[i] = 0;
    if (status || !c.nnear || !iid_meet(c.segment.box, job->windows + 4 * i, part)) {
        return status;
    }
    for (uint32_t row = part[MINR]; row < part[MAXR] && !(job->option && found); row++) {
        const row_of r = take_row(&c, row, part, job->row);
        for (uint32_t col = part[MINC]; col < part[MAXC]; col += 64) {
            found += (uint32_t)__builtin_popcountll(row_word(&r, col));
        }
    }
    job->counts[i] = job->option ? found > 0 : found;
    return MAPIX_OK;
}

static int combine_one(pixel_job *job, uint64_t i) {
    const uint16_t *window = job->windows;
    checked c;
    const int status = check_segment(job->map, job->iid, job->keys[i], window, &c, &job->where);
    if (status) {
        return status;
    }
    uint64_t *canvas = job->out;
    for (uint32_t row = window[MINR]; row < window[MAXR]; row++) {
        memset(job->row, 0, (job->nwords + 1) * sizeof *job->row);
        if (row >= c.segment.box[MINR] && row < c.segment.box[MAXR]) {
            iid_or_row(&c.segment, row, window, job->row);
        }
        uint64_t *line = canvas + (row - window[MINR]) * job->nwords;
        for (uint64_t k = 0; k < job->nwords; k++) {
            const uint64_t word = job->row[k];
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
        if (i + ROWS_AHEAD < job->n) {
            iid_prefetch_row(job->map, job->iid, job->keys[i + ROWS_AHEAD]);
            iid_prefetch(job->map, job->iid, job->keys[i + SEGMENTS_AHEAD], MOST_FETCHED);
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
