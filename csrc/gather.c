/* gather.c - many records into one batch, in one pass. */
#include "augment.h"
#include "lines.h"
#include "table.h"

#include <math.h>

/* --- putting it on the canvas ---------------------------------------------------------------- */

typedef struct {
    const mapix_gather *gather;
    const mapix_kernels *kernels;
    uint64_t canvas_nbytes; /* or, of records as they are, of a record */
    size_t item;
    int streams; /* whether lines of floats, or complete records of bytes, are written past the caches */
    int copies;  /* whether copy_one does all that is wanted */
} gather_job;

/* The part of a record that lands on the canvas, as lines of pixels: steps in source and target. */
typedef struct {
    uint64_t nlines, ncols;                    /* lines, and pixels in each */
    uint64_t from_row, from_col, from_channel; /* byte steps in the record */
    uint64_t to_row, to_col, to_channel;   /* element steps on the canvas */
    uint64_t skip;                         /* bytes before the first pixel */
} placing;

static placing place(const mapix_gather *g, const vimh_header *r, int interleaved) {
    placing p;
    const uint64_t over_y = r->h > g->h ? r->h - g->h : 0, over_x = r->w > g->w ? r->w - g->w : 0;
    const uint64_t half = g->fit & MAPIX_CENTRE ? 2 : 1;
    const uint64_t skip_y = half == 2 ? over_y / 2 : 0, skip_x = half == 2 ? over_x / 2 : 0;
    p.nlines = r->h - over_y;
    p.ncols = r->w - over_x;
    p.from_col = interleaved ? r->c : 1;
    p.from_row = r->w * p.from_col;
    p.from_channel = interleaved ? 1 : (uint64_t)r->h * r->w;
    p.to_col = g->layout == MAPIX_NHWC ? g->c : 1;
    p.to_row = g->w * p.to_col;
    p.to_channel = g->layout == MAPIX_NHWC ? 1 : (uint64_t)g->h * g->w;
    p.skip = skip_y * p.from_row + skip_x * p.from_col;
    if (p.ncols == r->w && p.ncols == g->w) { /* one line on both sides */
        p.ncols *= p.nlines;
        p.nlines = 1;
    }
    return p;
}

/* Copy a record's bytes as they are. */
static void copy_record(const gather_job *job, uint8_t *to, const uint8_t *from, uint64_t nbytes) {
    if (job->streams) {
        job->kernels->stream[MAPIX_U8](to, 1, from, 1, nbytes, 1.0f, 0.0f);
    } else {
        memcpy(to, from, nbytes);
    }
}

/* Whether a batch of so many bytes is written past the caches; `each` are those of a record.  Of bytes, several
 * buffers that are used in turns, and what is read for them, fill the last cache sooner. */
static int streams(const mapix_gather *g, uint64_t all, uint64_t each) {
    const uint64_t from = g->dtype == MAPIX_U8 ? mapix_stream(0) / 4 : mapix_stream(0);
    return g->dtype != MAPIX_F16 && all > from && (g->dtype == MAPIX_F32 || each > from / 512);
}

static void put_image(const gather_job *job, const vimh_header *r, uint32_t interleaved_file,
                      const uint8_t *image, uint8_t *canvas) {
    const mapix_gather *g = job->gather;
    const int interleaved = interleaved_file && r->c > 1;
    const int exact = r->h == g->h && r->w == g->w && r->c == g->c;
    const int same_order = r->c == 1 ? g->c == 1 : interleaved == (g->layout == MAPIX_NHWC);
    if (exact && same_order && g->dtype == MAPIX_U8) {
        copy_record(job, canvas, image, job->canvas_nbytes);
        return;
    }
    if (r->h < g->h || r->w < g->w || r->c < g->c) {
        mapix_fill(canvas, job->canvas_nbytes, g->dtype, g->pad_value);
    }
    const placing p = place(g, r, interleaved);
    const int streams = job->streams && g->dtype == MAPIX_F32 && p.from_col == 1 && p.to_col == 1;
    const line_fn line = streams ? job->kernels->stream[MAPIX_F32] : job->kernels->line[g->dtype];
    const int triple = r->c == 3 && g->c == 3 && !interleaved && g->layout == MAPIX_NHWC;
    for (uint64_t y = 0; y < p.nlines; y++) {
        const uint8_t *from = image + p.skip + y * p.from_row;
        uint8_t *to = canvas + y * p.to_row * job->item;
        if (triple) {
            job->kernels->triple[g->dtype](to, from, p.from_channel, p.ncols, g->affine);
            continue;
        }
        for (uint64_t channel = 0; channel < r->c; channel++) {
            const float a = g->affine ? g->affine[2 * channel] : 1.0f;
            const float b = g->affine ? g->affine[2 * channel + 1] : 0.0f;
            line(to + channel * p.to_channel * job->item, p.to_col, from + channel * p.from_channel,
                 p.from_col, p.ncols, a, b);
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

/* --- records ------------------------------------------------------------------------------------ */

/* The most usual record, by a function of its own: the more instructions lie between two copies, the less
 * the second one overlaps with the first.  256 records of 3 KB take 87 us, and 96 by gather_one. */
static int copy_one(const row_run *run, uint64_t i, const located *r, mapix_where *where) {
    const gather_job *job = run->arg;
    const mapix_gather *g = job->gather;
    const uint32_t head = table_at(run, i)->head_nbytes;
    const uint8_t *p = map_at(run, i)->base + r->at;
    (void)where;
    copy_record(job, g->images + i * job->canvas_nbytes, p + before_image(head, r->header.n),
                job->canvas_nbytes);
    if (g->labels) {
        put_labels(g, i, p + head + 1, head ? r->header.n : 0);
    }
    return MAPIX_OK;
}

/* Whether records of a table are copied as they are, with labels alone: one stride, and no canvas. */
static int copies(const mapix_gather *g, const mapix_table *table) {
    const mapix_entry *e = &table->first;
    const int exact = e->h == g->h && e->w == g->w && e->c == g->c && g->dtype == MAPIX_U8 &&
                      (e->c == 1 || (table->interleaved != 0) == (g->layout == MAPIX_NHWC));
    return !table->entries && g->images && !g->flat_at && !g->augment && !g->shapes && !g->spec_range &&
           (g->swap == 1 || (!g->swap && exact));
}

static int gather_one(const row_run *run, uint64_t i, const located *r, mapix_where *where) {
    const gather_job *job = run->arg;
    const mapix_gather *g = job->gather;
    const mapix_map *map = map_at(run, i);
    const mapix_table *table = table_at(run, i);
    const uint32_t head = table->head_nbytes;
    const uint8_t *p = map->base + r->at;
    const uint8_t *image = p + before_image(head, r->header.n);
    if (g->swap == 1) {
        copy_record(job, g->images + i * job->canvas_nbytes, p, job->canvas_nbytes);
    } else if (g->swap) {
        job->kernels->swap[g->swap](g->images + i * job->canvas_nbytes, p, r->size);
    } else if (g->flat_at) {
        const uint64_t nbytes = pixels(r->header.h, r->header.w, r->header.c);
        const uint64_t to = g->flat_at[i];
        if (MAPIX_UNLIKELY(nbytes != g->flat_at[i + 1] - to || to > g->images_nbytes ||
                           nbytes > g->images_nbytes - to)) {
            return stale(map, r, where); /* the table was changed meanwhile */
        }
        copy_record(job, g->images + to, image, nbytes);
    } else if (g->augment) {
        const int status = mapix_augment_image(g, job->kernels, i, &r->header, table->interleaved != 0,
                                               image, g->images + i * job->canvas_nbytes, where);
        if (MAPIX_UNLIKELY(status)) {
            where->record = r->row;
            where->at = r->at;
            return status;
        }
    } else if (g->images) {
        if (MAPIX_UNLIKELY(!fits(g, &r->header))) {
            where->record = r->row;
            where->at = r->at;
            where->expected = packed_shape((uint16_t)g->h, (uint16_t)g->w, (uint16_t)g->c);
            where->got = packed_shape(r->header.h, r->header.w, r->header.c);
            return MAPIX_E_SHAPE;
        }
        put_image(job, &r->header, table->interleaved, image, g->images + i * job->canvas_nbytes);
    }
    if (g->labels) {
        put_labels(g, i, p + head + 1, head ? r->header.n : 0);
    }
    if (g->shapes) {
        g->shapes[3 * i] = r->header.h;
        g->shapes[3 * i + 1] = r->header.w;
        g->shapes[3 * i + 2] = r->header.c;
    }
    if (g->spec_range && head == 14) {
        memcpy(g->spec_range + 2 * i, p + 6, 8);
    } else if (g->spec_range) {
        g->spec_range[2 * i] = g->spec_range[2 * i + 1] = NAN;
    }
    return MAPIX_OK;
}

/* Check what is asked for, and fill in the job. */
static int gather_usable(const mapix_gather *g, const mapix_table *table, uint64_t nrows,
                         gather_job *job) {
    uint64_t all;
    if (g->dtype > MAPIX_F16 || g->layout > MAPIX_NHWC ||
        (g->labels && (!g->present || !g->columns)) || (g->flat_at && g->dtype != MAPIX_U8)) {
        return 0;
    }
    job->item = item_nbytes(g->dtype);
    const uint32_t h = g->augment ? g->augment->h : g->h, w = g->augment ? g->augment->w : g->w;
    if (g->augment && (g->swap || g->flat_at || !g->images || !mapix_augment_usable(g))) {
        return 0;
    }
    if (g->swap) {
        job->canvas_nbytes = table->stride;
        if (!g->images || g->flat_at || table->head_nbytes || table->stride % g->swap ||
            (g->swap != 1 && g->swap != 2 && g->swap != 4 && g->swap != 8)) {
            return 0;
        }
    } else if (!g->images || g->flat_at) {
        job->streams = streams(g, g->images_nbytes, g->images_nbytes / nrows);
        return !g->flat_at || g->images;
    } else {
        if (!h || !w || !g->c || h > 65535 || w > 65535 || g->c > 65535 ||
            (g->dtype != MAPIX_U8 && !g->affine) || (uintptr_t)g->images % job->item) {
            return 0;
        }
        job->canvas_nbytes = (uint64_t)h * w * g->c * job->item; /* below 2^50 */
    }
    if (__builtin_mul_overflow(job->canvas_nbytes, nrows, &all) || all > g->images_nbytes) {
        return 0;
    }
    job->streams = streams(g, all, job->canvas_nbytes);
    return 1;
}

/* Copy the records of a run; with a probe, ask for those that are not in memory. */
static int run_gather(row_run run, gather_job *job, mapix_where *where) {
    const mapix_gather *g = job->gather;
    uint64_t nasked;
    job->kernels = mapix_kernels_now();
    run.nthreads = g->nthreads;
    run.each = job->copies ? copy_one : gather_one;
    run.arg = job;
    run.reads = g->images ? READS_RECORD : READS_HEAD;
    if (!g->probe) {
        return mapix_run_rows(&run, where);
    }
    return mapix_run_cold(&run, g->probe, g->nasked ? g->nasked : &nasked, where);
}

int mapix_table_gather(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                       uint64_t nrows, const mapix_gather *gather, mapix_where *where) {
    gather_job job = {.gather = gather, .copies = copies(gather, table)};
    if (nrows == 0) {
        return MAPIX_OK;
    }
    if (!table_usable(table) || !gather_usable(gather, table, nrows, &job)) {
        return MAPIX_E_ARGUMENT;
    }
    const row_run run = {.map = map, .table = table, .rows = rows, .nrows = nrows};
    return run_gather(run, &job, where);
}

/* --- several files ------------------------------------------------------------------------------ */

/* The part that has record `row`: the last one that begins at it or before. */
static uint64_t part_of(const mapix_joint *joint, uint64_t row) {
    uint64_t low = 0, high = joint->nparts;
    while (high - low > 1) {
        const uint64_t middle = low + (high - low) / 2;
        if (joint->parts[middle].begin <= row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Find the part of each of the rows, and its number there.  Tables have to be strides. */
static int divide(mapix_joint *joint, const int64_t *rows, uint64_t nrows, const mapix_gather *gather,
                  gather_job *job, mapix_where *where) {
    const mapix_part *last = &joint->parts[joint->nparts - 1];
    const uint64_t n = last->begin + last->table->nrecords;
    for (uint64_t i = 0; i < nrows; i++) {
        const uint64_t row = rows[i] < 0 ? n + (uint64_t)rows[i] : (uint64_t)rows[i];
        if (MAPIX_UNLIKELY(row >= n)) {
            *where = (mapix_where){.record = i, .expected = n, .got = (uint64_t)rows[i]};
            return MAPIX_E_ROW;
        }
        const uint64_t k = part_of(joint, row);
        const mapix_table *table = joint->parts[k].table;
        if (!joint->touched[k]) {
            const uint64_t canvas = job->canvas_nbytes;
            joint->touched[k] = 1;
            joint->failed = k;
            job->copies = job->copies && copies(gather, table);
            if (table->entries || !table_usable(table) || !gather_usable(gather, table, nrows, job) ||
                (i && job->canvas_nbytes != canvas)) {
                return MAPIX_E_ARGUMENT;
            }
        }
        joint->which[i] = (uint32_t)k;
        joint->local[i] = (int64_t)(row - joint->parts[k].begin);
    }
    return MAPIX_OK;
}

/* Divide the rows, and describe the run over all of them. */
static int joint_run(mapix_joint *joint, const int64_t *rows, uint64_t nrows, const mapix_gather *gather,
                     gather_job *job, row_run *run, mapix_where *where) {
    if (!joint->nparts || joint->nparts > UINT32_MAX || gather->flat_at) {
        return MAPIX_E_ARGUMENT;
    }
    memset(joint->touched, 0, joint->nparts);
    *run = (row_run){.joint = joint, .rows = joint->local, .nrows = nrows};
    return divide(joint, rows, nrows, gather, job, where);
}

int mapix_joint_gather(mapix_joint *joint, const int64_t *rows, uint64_t nrows,
                       const mapix_gather *gather, mapix_where *where) {
    gather_job job = {.gather = gather, .copies = 1};
    row_run run;
    const int unusable = nrows ? joint_run(joint, rows, nrows, gather, &job, &run, where) : MAPIX_OK;
    return unusable || !nrows ? unusable : run_gather(run, &job, where);
}

int mapix_joint_willneed(mapix_joint *joint, const int64_t *rows, uint64_t nrows, uint32_t probe,
                         uint64_t *nasked, mapix_where *where) {
    const mapix_gather nothing = {0};
    gather_job job = {.gather = &nothing};
    row_run run;
    *nasked = 0;
    const int unusable = nrows ? joint_run(joint, rows, nrows, &nothing, &job, &run, where) : MAPIX_OK;
    return unusable || !nrows ? unusable : mapix_run_cold(&run, probe, nasked, where);
}
