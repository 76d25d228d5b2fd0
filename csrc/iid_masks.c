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
    uint64_t *other; /* a second canvas */
    uint64_t nwords;
    const mapix_canvas *canvas;
    mapix_where where;
} pixel_job;

/* --- masks and counts ----------------------------------------------------------------------------- */

/* Up to 64 pixels as bytes, the first from the highest bit. */
static inline void spread_word(uint8_t *to, uint64_t word, uint32_t n) {
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

#define BODY "iid_masks_body.h"
#include "each_level.h"

/* --- unions --------------------------------------------------------------------------------------- */

static int combine_one(pixel_job *job, uint64_t i) {
    checked c;
    const uint16_t *window = job->windows;
    const int status = check_segment(job->map, job->iid, job->keys[i], window, &c, &job->where);
    if (status) {
        return status;
    }
    if (job->option != 1) {
        const canvas_what what = job->option == 0 ? CANVAS_ADD : CANVAS_TAKE;
        (void)use_canvas(&c, window, job->out, NULL, job->nwords, what);
        return MAPIX_OK;
    }
    /* Write the shared pixels to the other canvas, then clear this one where it may have pixels: at first
     * that is anywhere, later where the previous segment has its regions. */
    uint64_t *from = job->out, *to = job->other;
    (void)use_canvas(&c, window, to, from, job->nwords, CANVAS_BOTH);
    if (i == 0) {
        const uint64_t h = window[MAXR] - window[MINR];
        memset(from, 0, h * job->nwords * sizeof *from);
    } else {
        checked before;
        const int again =
            check_segment(job->map, job->iid, job->keys[i - 1], window, &before, &job->where);
        if (again) {
            return again;
        }
        (void)use_canvas(&before, window, from, NULL, job->nwords, CANVAS_CLEAR);
    }
    job->out = to;
    job->other = from;
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
    return upright(windows, n) ? run(&job, MAPIX_AT_LEVEL(mask_of), where) : MAPIX_E_ARGUMENT;
}

typedef struct {
    pixel_job job;
    uint32_t key;
    uint16_t box[4];
    uint64_t offsets[2];
} own_job;

static int own_mask(void *arg) {
    own_job *own = arg;
    pixel_job *job = &own->job;
    iid_segment s;
    const int status = iid_segment_of(job->map, job->iid, own->key, &s, &job->where);
    if (status) {
        return status;
    }
    memcpy(own->box, s.box, 8);
    own->offsets[1] = (uint64_t)(s.box[MAXR] - s.box[MINR]) * (uint64_t)(s.box[MAXC] - s.box[MINC]);
    return own->offsets[1] > job->out_nbytes ? MAPIX_E_SHAPE : MAPIX_AT_LEVEL(mask_of)(job, 0);
}

int mapix_iid_own_mask(const mapix_map *map, const mapix_iid *iid, uint32_t key, uint16_t *box,
                       uint8_t *out, uint64_t capacity, mapix_where *where) {
    own_job own;
    own.job = (pixel_job){.map = map, .iid = iid, .keys = &own.key, .windows = own.box,
                          .offsets = own.offsets, .out = out, .out_nbytes = capacity};
    own.key = key;
    own.offsets[0] = 0;
    own.job.where.record = key; /* for a fault */
    if (!iid_usable(map, iid)) {
        return MAPIX_E_ARGUMENT;
    }
    iid_prefetch_row(map, iid, key); /* under way while the guard is entered */
    const int status = mapix_guarded_checked(map, own_mask, &own);
    memcpy(box, own.box, 8);
    *where = own.job.where;
    return status;
}

int mapix_iid_count(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys,
                    const uint16_t *windows, uint64_t n, uint32_t any, const mapix_canvas *canvas,
                    uint32_t *counts, mapix_where *where) {
    pixel_job job;
    job.map = map, job.iid = iid, job.keys = keys, job.windows = windows, job.n = n;
    job.counts = counts, job.option = any, job.canvas = canvas;
    if (!upright(windows, n) || canvas->nwords < MAPIX_CANVAS) {
        return MAPIX_E_ARGUMENT;
    }
    return run(&job, MAPIX_AT_LEVEL(count_of), where);
}

int mapix_iid_combine(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                      uint32_t what, const uint16_t *window, uint64_t *canvas, uint64_t *other,
                      uint64_t nwords, mapix_where *where) {
    pixel_job job;
    job.map = map, job.iid = iid, job.keys = keys, job.n = n, job.windows = window;
    job.out = canvas, job.other = other, job.nwords = nwords, job.option = what;
    if (!iid_upright(window) || what > 2 || (what == 1 && !other) ||
        nwords != ((uint64_t)(window[MAXC] - window[MINC]) + 63) / 64) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = run(&job, combine_one, where);
    if (job.out != canvas) {
        memcpy(canvas, job.out, (window[MAXR] - window[MINR]) * nwords * sizeof *canvas);
    }
    return status;
}
