/* vimh_gather.c - many records of a VIMH file into one batch, in one pass. */
#define _GNU_SOURCE
#include "lines.h"
#include "pool.h"
#include "vimh_locate.h"

#include <errno.h>
#include <math.h>

/* --- putting it on the canvas ---------------------------------------------------------------- */

typedef struct {
    const mapix_map *map;
    const mapix_vimh_index *index;
    const int64_t *rows;
    uint64_t nrows;
    const mapix_gather *gather;
    const mapix_kernels *kernels;
    uint64_t canvas_nbytes;
    size_t item;
    unsigned nparts;
    int status[MAPIX_MAX_PARTS];
    mapix_where where[MAPIX_MAX_PARTS];
} gather_job;

static void fill(void *canvas, uint64_t nbytes, uint32_t dtype, float value) {
    if (dtype == MAPIX_U8) { /* C leaves open what a float out of range becomes; NaN is 0 here */
        memset(canvas, value >= 255.0f ? 255 : value > 0.0f ? (int)value : 0, nbytes);
    } else if (value == 0.0f) {
        memset(canvas, 0, nbytes);
    } else if (dtype == MAPIX_F32) {
        float *to = canvas;
        for (uint64_t i = 0; i < nbytes / 4; i++) {
            to[i] = value;
        }
    } else {
        uint16_t *to = canvas;
        const uint16_t half = mapix_half(value);
        for (uint64_t i = 0; i < nbytes / 2; i++) {
            to[i] = half;
        }
    }
}

/* The part of a record that lands on the canvas, as rows of pixels: source and target steps. */
typedef struct {
    uint64_t nrows, ncols;                 /* lines, and pixels in each */
    uint64_t from_row, from_col, from_channel; /* byte steps in the record */
    uint64_t to_row, to_col, to_channel;   /* element steps on the canvas */
    uint64_t skip;                         /* bytes before the first pixel */
} placing;

static placing place(const mapix_gather *g, const vimh_header *r, int interleaved) {
    placing p;
    const uint64_t over_y = r->h > g->h ? r->h - g->h : 0, over_x = r->w > g->w ? r->w - g->w : 0;
    const uint64_t half = g->fit & MAPIX_CENTRE ? 2 : 1;
    const uint64_t skip_y = half == 2 ? over_y / 2 : 0, skip_x = half == 2 ? over_x / 2 : 0;
    p.nrows = r->h - over_y;
    p.ncols = r->w - over_x;
    p.from_col = interleaved ? r->c : 1;
    p.from_row = r->w * p.from_col;
    p.from_channel = interleaved ? 1 : (uint64_t)r->h * r->w;
    p.to_col = g->layout == MAPIX_NHWC ? g->c : 1;
    p.to_row = g->w * p.to_col;
    p.to_channel = g->layout == MAPIX_NHWC ? 1 : (uint64_t)g->h * g->w;
    p.skip = skip_y * p.from_row + skip_x * p.from_col;
    if (p.ncols == r->w && p.ncols == g->w) { /* lines follow one another on both sides */
        p.ncols *= p.nrows;
        p.nrows = 1;
    }
    return p;
}

static void put_image(const gather_job *job, const vimh_header *r, const uint8_t *image,
                      uint8_t *canvas) {
    const mapix_gather *g = job->gather;
    const int interleaved = job->index->interleaved && r->c > 1;
    const int exact = r->h == g->h && r->w == g->w && r->c == g->c;
    const int same_order = r->c == 1 ? g->c == 1 : interleaved == (g->layout == MAPIX_NHWC);
    if (exact && same_order && g->dtype == MAPIX_U8) {
        memcpy(canvas, image, job->canvas_nbytes);
        return;
    }
    if (r->h < g->h || r->w < g->w || r->c < g->c) {
        fill(canvas, job->canvas_nbytes, g->dtype, g->pad_value);
    }
    const placing p = place(g, r, interleaved);
    const int triple = r->c == 3 && g->c == 3 && !interleaved && g->layout == MAPIX_NHWC;
    for (uint64_t y = 0; y < p.nrows; y++) {
        const uint8_t *from = image + p.skip + y * p.from_row;
        uint8_t *to = canvas + y * p.to_row * job->item;
        if (triple) {
            job->kernels->triple[g->dtype](to, from, p.from_channel, p.ncols, g->affine);
            continue;
        }
        for (uint64_t channel = 0; channel < r->c; channel++) {
            const float a = g->affine ? g->affine[2 * channel] : 1.0f;
            const float b = g->affine ? g->affine[2 * channel + 1] : 0.0f;
            job->kernels->line[g->dtype](to + channel * p.to_channel * job->item, p.to_col,
                                         from + channel * p.from_channel, p.from_col, p.ncols, a,
                                         b);
        }
    }
}

static int fits(const mapix_gather *g, const vimh_header *r) {
    const int larger = r->h > g->h || r->w > g->w, smaller = r->h < g->h || r->w < g->w;
    return r->c <= g->c && (r->c == g->c || (g->fit & MAPIX_PAD)) &&
           (!larger || (g->fit & MAPIX_CROP)) && (!smaller || (g->fit & MAPIX_PAD));
}

static void put_labels(const mapix_gather *g, uint64_t i, const uint8_t *pairs, unsigned n) {
    uint8_t *values = g->labels + i * g->ncolumns, *present = g->present + i * g->ncolumns;
    for (uint32_t k = 0; k < g->ncolumns; k++) { /* few: a call of memset would cost more */
        values[k] = present[k] = 0;
    }
    for (unsigned k = 0; k < n; k++) {
        const int column = g->columns[pairs[2 * k]];
        if (column >= 0 && (uint32_t)column < g->ncolumns) {
            values[column] = pairs[2 * k + 1];
            present[column] = 1;
        }
    }
}

/* --- the gather itself ------------------------------------------------------------------------*/

/* Bring the record of rows[i] into the cache; says nothing about a bad row, its turn will come. */
__attribute__((always_inline)) static inline void prefetch_row(const gather_job *job, uint64_t i) {
    uint64_t row;
    located r;
    mapix_where ignored;
    if (row_number(job->index, job->rows, i, &row, &ignored) ||
        locate(job->index, job->map->nbytes, row, &r, &ignored)) {
        return;
    }
    const uint8_t *p = job->map->base + r.at;
    /* labels alone lie at the beginning */
    const uint64_t wanted =
        job->gather->images ? r.size : before_image(job->index->head_nbytes, r.header.n);
    prefetch_beginning(p, wanted);
}

static int gather_one(const gather_job *job, uint64_t i, mapix_where *where) {
    const mapix_gather *g = job->gather;
    const uint32_t head = job->index->head_nbytes;
    uint64_t row;
    located r;
    int status = row_number(job->index, job->rows, i, &row, where);
    status = status ? status : locate(job->index, job->map->nbytes, row, &r, where);
    status = status ? status : confirm(job->map, head, row, &r, where);
    if (MAPIX_UNLIKELY(status)) {
        return status;
    }
    const uint8_t *p = job->map->base + r.at;
    const uint8_t *image = p + before_image(head, r.header.n);
    if (g->flat_at) {
        const uint64_t nbytes = pixels(r.header.h, r.header.w, r.header.c);
        const uint64_t to = g->flat_at[i];
        if (MAPIX_UNLIKELY(nbytes != g->flat_at[i + 1] - to || to > g->images_nbytes ||
                           nbytes > g->images_nbytes - to)) {
            return stale(job->map, row, &r, where); /* a table that changes under our hands */
        }
        memcpy((uint8_t *)g->images + to, image, nbytes);
    } else if (g->images) {
        if (MAPIX_UNLIKELY(!fits(g, &r.header))) {
            where->record = row;
            where->at = r.at;
            where->expected = packed_shape((uint16_t)g->h, (uint16_t)g->w, (uint16_t)g->c);
            where->got = packed_shape(r.header.h, r.header.w, r.header.c);
            return MAPIX_E_SHAPE;
        }
        put_image(job, &r.header, image, (uint8_t *)g->images + i * job->canvas_nbytes);
    }
    if (g->labels) {
        put_labels(g, i, p + head + 1, head ? r.header.n : 0);
    }
    if (g->shapes) {
        g->shapes[3 * i] = r.header.h;
        g->shapes[3 * i + 1] = r.header.w;
        g->shapes[3 * i + 2] = r.header.c;
    }
    if (g->spec_range && head == 14) {
        memcpy(g->spec_range + 2 * i, p + 6, 8);
    } else if (g->spec_range) {
        g->spec_range[2 * i] = g->spec_range[2 * i + 1] = NAN;
    }
    return MAPIX_OK;
}

typedef struct {
    gather_job *job;
    unsigned part;
} gather_part;

static int gather_rows(void *arg) {
    const gather_part *mine = arg;
    gather_job *job = mine->job;
    const uint64_t lo = mapix_part_begin(job->nrows, job->nparts, mine->part);
    const uint64_t hi = mapix_part_begin(job->nrows, job->nparts, mine->part + 1);
    for (uint64_t i = lo; i < hi && i < lo + RECORDS_AHEAD; i++) {
        prefetch_row(job, i);
    }
    for (uint64_t i = lo; i < hi; i++) {
        prefetch_entry(job->index, job->rows, i + ENTRIES_AHEAD, hi);
        if (i + RECORDS_AHEAD < hi) {
            prefetch_row(job, i + RECORDS_AHEAD);
        }
        mapix_where *where = &job->where[mine->part];
        *(volatile uint64_t *)&where->record = i; /* for a fault, which cannot say where it was */
        const int status = gather_one(job, i, where);
        if (MAPIX_UNLIKELY(status)) {
            return status;
        }
    }
    return MAPIX_OK;
}

static void gather_run(void *arg, unsigned part) {
    gather_job *job = arg;
    gather_part mine = {job, part};
    job->status[part] = with_index(job->map, job->index, gather_rows, &mine);
    if (job->status[part] == MAPIX_E_SYSTEM) {
        job->where[part].got = (uint64_t)errno; /* this thread's: a helper's would be lost */
    }
}

/* Turn where[0]'s position in rows into the record there; under the guard, as a table may be what
 * could not be read. */
static int name_record(void *arg) {
    gather_job *job = arg;
    mapix_where *where = &job->where[0];
    located r;
    uint64_t row;
    if (row_number(job->index, job->rows, where->record, &row, where) == MAPIX_OK) {
        where->record = row;
        where->at = locate(job->index, job->map->nbytes, row, &r, where) ? 0 : r.at;
    }
    return MAPIX_OK;
}

/* The first part's status that is not MAPIX_OK, told in *where. */
static int gather_outcome(gather_job *job, mapix_where *where) {
    unsigned part = 0;
    while (part < job->nparts && job->status[part] == MAPIX_OK) {
        part++;
    }
    if (part == job->nparts) {
        return MAPIX_OK;
    }
    const int status = job->status[part];
    job->where[0] = job->where[part];
    if (status == MAPIX_E_FAULT) {
        (void)with_index(job->map, job->index, name_record, job);
    }
    *where = job->where[0];
    if (status == MAPIX_E_SYSTEM) {
        errno = (int)where->got;
    }
    return status;
}

static int gather_usable(const mapix_gather *g, uint64_t nrows, gather_job *job) {
    static const size_t items[3] = {1, 4, 2};
    if (g->dtype > MAPIX_F16 || g->layout > MAPIX_NHWC ||
        (g->labels && (!g->present || !g->columns)) || (g->flat_at && g->dtype != MAPIX_U8)) {
        return 0;
    }
    job->item = items[g->dtype];
    if (!g->images || g->flat_at) {
        return !g->flat_at || g->images;
    }
    uint64_t all;
    if (!g->h || !g->w || !g->c || g->h > 65535 || g->w > 65535 || g->c > 65535 ||
        (g->dtype != MAPIX_U8 && !g->affine) || (uintptr_t)g->images % job->item) {
        return 0;
    }
    job->canvas_nbytes = (uint64_t)g->h * g->w * g->c * job->item; /* below 2^50 */
    return !__builtin_mul_overflow(job->canvas_nbytes, nrows, &all) && all <= g->images_nbytes;
}

int mapix_vimh_gather(const mapix_map *map, const mapix_vimh_index *index, const int64_t *rows,
                      uint64_t nrows, const mapix_gather *gather, mapix_where *where) {
    gather_job job = {.map = map, .index = index, .rows = rows, .nrows = nrows, .gather = gather};
    if (nrows == 0) {
        return MAPIX_OK;
    }
    if (!index_usable(index) || !gather_usable(gather, nrows, &job)) {
        return MAPIX_E_ARGUMENT;
    }
    job.kernels = mapix_kernels_now();
    const unsigned nthreads =
        gather->nthreads < MAPIX_POOL_MAX ? gather->nthreads : MAPIX_POOL_MAX;
    job.nparts = mapix_parts_of(nrows, nthreads);
    if (gather->probe) {
        uint64_t nasked;
        const int unready = mapix_vimh_willneed(map, index, rows, nrows, gather->probe, &nasked,
                                                where);
        if (unready) {
            return unready;
        }
        if (gather->nasked) {
            *gather->nasked = nasked;
        }
    }
    mapix_pool_run(gather_run, &job, job.nparts, nthreads);
    const int status = gather_outcome(&job, where);
    const int moved = status == MAPIX_E_SYSTEM ? MAPIX_OK : mapix_map_check(map);
    return moved ? moved : status;
}
