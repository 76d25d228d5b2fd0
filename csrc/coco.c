/* coco.c - encode segments as COCO's run lengths, decode such run lengths, and rasterise polygons.
 *
 * Runs go down the columns of the complete image, zeros first.  In text, a count (from the fourth on, its
 * difference from the count two before) is written as groups of five bits, the lowest first, bit 6 if more
 * follow, plus 48. */
#include "iid_rows.h"

#include <math.h>

enum { STRIP = 64, MOST_TEXT = 14 }; /* columns taken at once; bytes of text that two counts take */

/* --- out ----------------------------------------------------------------------------------------- */

typedef struct {
    uint8_t *out;
    uint64_t capacity, n;     /* bytes */
    int text, full;       /* full: `out` has no space left */
    uint64_t ncounts, last, before_last;
    uint64_t behind;      /* pixels for which counts were written */
    uint64_t begin, end;  /* of the last run, which can still grow; equal if there is no run */
} rle_writer;

static void put_count(rle_writer *o, uint64_t count) {
    if (!o->text) {
        const uint32_t word = (uint32_t)count;
        memcpy(o->out + o->n, &word, 4);
        o->n += 4;
        return;
    }
    int64_t x = (int64_t)count - (o->ncounts > 2 ? (int64_t)o->before_last : 0);
    for (int more = 1; more;) {
        const uint8_t group = (uint8_t)(x & 31);
        x >>= 5;
        more = group & 16 ? x != -1 : x != 0;
        o->out[o->n++] = (uint8_t)((more ? group | 32 : group) + 48);
    }
    o->before_last = o->last;
    o->last = count;
    o->ncounts++;
}

static void put_run(rle_writer *o) {
    if (o->begin == o->end) {
        return;
    }
    if (o->capacity - o->n < MOST_TEXT) {
        o->full = 1;
        return;
    }
    put_count(o, o->begin - o->behind);
    put_count(o, o->end - o->begin);
    o->behind = o->end;
}

/* Add ones at pixels [begin, end).  A run that continues from the bottom of a column at the top of the next
 * one is one run. */
static inline void add_ones(rle_writer *o, uint64_t begin, uint64_t end) {
    if (begin != o->end || o->begin == o->end) {
        put_run(o);
        o->begin = begin;
    }
    o->end = end;
}

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    const uint32_t *keys;
    uint64_t n, done;
    uint32_t h, w; /* of the image */
    uint16_t *scratch;
    uint64_t *rows; /* 64 columns of each row, and a bit for each row that has some */
    rle_writer out;
    uint64_t *ends;
    mapix_where where;
} rle_job;

/* Add a row to the columns whose pixels change there. */
static inline void put_edges(rle_job *job, uint64_t edges, uint32_t row, uint64_t capacity, uint32_t *counts) {
    for (; edges; edges &= edges - 1) {
        const unsigned column = 63 - (unsigned)__builtin_ctzll(edges);
        job->scratch[column * capacity + counts[column]++] = (uint16_t)row;
    }
}

/* Find the rows where the pixels of up to 64 columns change, from top to bottom, for each column.  First the
 * rows of all regions are collected, and those that have pixels are marked; then only these are read, and
 * zeroed again. */
static void find_edges(rle_job *job, const checked *c, const uint16_t strip[4], uint32_t *counts) {
    const uint64_t capacity = (uint64_t)(strip[MAXR] - strip[MINR]) + 1;
    uint64_t above = 0, *noted = job->rows + job->h;
    uint32_t next = 0;
    near_place place = {0, 0};
    iid_region r;
    uint16_t part[4];
    memset(counts, 0, STRIP * sizeof *counts);
    while (next_near(c, strip, &place, &r, part)) {
        for (uint32_t row = part[MINR]; row < part[MAXR]; row++) {
            job->rows[row] |= iid_row_word(&r, row, part[MINC], part[MAXC]) >>
                              (part[MINC] - strip[MINC]);
            noted[row >> 6] |= UINT64_C(1) << (row & 63);
        }
    }
    for (uint32_t k = c->bounds[MINR] >> 6; k <= (uint32_t)(c->bounds[MAXR] - 1) >> 6; k++) {
        for (; noted[k]; noted[k] &= noted[k] - 1) {
            const uint32_t row = k << 6 | (uint32_t)__builtin_ctzll(noted[k]);
            if (row != next) {
                put_edges(job, above, next, capacity, counts);
                above = 0;
            }
            put_edges(job, job->rows[row] ^ above, row, capacity, counts);
            above = job->rows[row];
            job->rows[row] = 0;
            next = row + 1;
        }
    }
    put_edges(job, above, next, capacity, counts);
}

static int encode_one(rle_job *job, uint32_t key) {
    rle_writer *o = &job->out;
    iid_segment s;
    int status = iid_segment_of(job->map, job->iid, key, &s, &job->where);
    if (status) {
        return status;
    }
    if (s.box[MAXR] > job->h || s.box[MAXC] > job->w) {
        return MAPIX_E_ARGUMENT;
    }
    o->ncounts = o->behind = o->begin = o->end = 0;
    if (s.box[MINC] == s.box[MAXC]) { /* no column; the regions are checked nevertheless */
        checked c;
        status = check_segment(job->map, job->iid, key, s.box, &c, &job->where);
    }
    for (uint32_t col = s.box[MINC]; col < s.box[MAXC] && !o->full; col += STRIP) {
        const uint32_t left = s.box[MAXC] - col, n = left < STRIP ? left : STRIP;
        const uint16_t strip[4] = {s.box[MINR], (uint16_t)col, s.box[MAXR], (uint16_t)(col + n)};
        const uint64_t capacity = (uint64_t)(strip[MAXR] - strip[MINR]) + 1;
        uint32_t counts[STRIP];
        checked c;
        status = check_segment(job->map, job->iid, key, strip, &c, &job->where);
        if (status) {
            return status;
        }
        if (!c.nnear) {
            continue;
        }
        find_edges(job, &c, strip, counts);
        for (uint32_t k = 0; k < n; k++) {
            const uint64_t top = (uint64_t)(col + k) * job->h;
            for (uint32_t e = 0; e + 1 < counts[k]; e += 2) {
                add_ones(o, top + job->scratch[k * capacity + e], top + job->scratch[k * capacity + e + 1]);
            }
        }
    }
    if (status) {
        return status;
    }
    put_run(o);
    const uint64_t all = (uint64_t)job->h * job->w;
    if (o->capacity - o->n < MOST_TEXT) {
        o->full = 1;
    } else if (o->behind < all || !all) {
        put_count(o, all - o->behind);
    }
    return MAPIX_OK;
}

static int encode_all(void *arg) {
    rle_job *job = arg;
    for (; job->done < job->n; job->done++) {
        const uint64_t i = job->done, begin = job->out.n;
        if (i + ROWS_AHEAD < job->n) {
            iid_prefetch_row(job->map, job->iid, job->keys[i + ROWS_AHEAD]);
            iid_prefetch(job->map, job->iid, job->keys[i + SEGMENTS_AHEAD], MOST_FETCHED);
        }
        *(volatile uint64_t *)&job->where.record = job->keys[i]; /* for a fault */
        const int status = encode_one(job, job->keys[i]);
        if (status) {
            return status;
        }
        if (job->out.full) {
            job->out.n = begin;
            return MAPIX_OK; /* the caller repeats this one with a larger output */
        }
        job->ends[i] = job->out.n;
    }
    return MAPIX_OK;
}

int mapix_iid_rle(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                  uint32_t h, uint32_t w, uint32_t text, uint16_t *scratch, uint64_t *rows,
                  uint8_t *out, uint64_t capacity, uint64_t *ends, uint64_t *done, mapix_where *where) {
    if (!iid_usable(map, iid) || h > 65535 || w > 65535 || *done > n) {
        return MAPIX_E_ARGUMENT;
    }
    rle_job job;
    job.map = map, job.iid = iid, job.keys = keys, job.n = n, job.done = *done;
    job.h = h, job.w = w, job.scratch = scratch, job.rows = rows, job.ends = ends;
    job.out = (rle_writer){.out = out, .capacity = capacity, .text = text != 0};
    job.where = (mapix_where){0};
    const int status = mapix_guarded_checked(map, encode_all, &job);
    *done = job.done;
    *where = job.where;
    return status;
}

/* --- in ------------------------------------------------------------------------------------------ */

int mapix_rle_counts(const uint8_t *text, uint64_t nbytes, uint32_t *counts, uint64_t *n) {
    *n = 0;
    for (uint64_t at = 0; at < nbytes;) {
        uint64_t x = 0;
        for (unsigned shift = 0;; shift += 5) {
            if (at == nbytes || shift > 35) {
                return MAPIX_E_ARGUMENT;
            }
            const unsigned group = (unsigned)text[at++] - 48;
            if (group > 63) {
                return MAPIX_E_ARGUMENT;
            }
            x |= (uint64_t)(group & 31) << shift;
            if (!(group & 32)) {
                x |= group & 16 ? UINT64_MAX << (shift + 5) : 0;
                break;
            }
        }
        x += *n > 2 ? counts[*n - 2] : 0; /* modulo 2^64: a negative count is a huge one */
        if (x > UINT32_MAX) {
            return MAPIX_E_ARGUMENT;
        }
        counts[(*n)++] = (uint32_t)x;
    }
    return MAPIX_OK;
}

int mapix_rle_box(const uint32_t *counts, uint64_t n, uint32_t h, uint32_t w, uint16_t *box) {
    const uint64_t all = (uint64_t)h * w;
    uint64_t at = 0;
    uint32_t minr = h, maxr = 0, minc = w, maxc = 0;
    for (uint64_t i = 0; i < n; at += counts[i++]) {
        if (counts[i] > all - at) {
            return MAPIX_E_ARGUMENT;
        }
        if (i % 2 && counts[i]) {
            const uint64_t end = at + counts[i];
            const uint32_t first = (uint32_t)(at / h), last = (uint32_t)((end - 1) / h);
            const uint32_t top = first == last ? (uint32_t)(at % h) : 0;
            const uint32_t bottom = first == last ? (uint32_t)((end - 1) % h) + 1 : h;
            minr = top < minr ? top : minr;
            maxr = bottom > maxr ? bottom : maxr;
            minc = first < minc ? first : minc;
            maxc = last + 1;
        }
    }
    if (at != all || h > 65535 || w > 65535) {
        return MAPIX_E_ARGUMENT;
    }
    const int some = maxr > 0;
    box[MINR] = (uint16_t)(some ? minr : 0);
    box[MINC] = (uint16_t)(some ? minc : 0);
    box[MAXR] = (uint16_t)maxr;
    box[MAXC] = (uint16_t)maxc;
    return MAPIX_OK;
}

int mapix_rle_mask(const uint32_t *counts, uint64_t n, uint32_t h, const uint16_t *box,
                   uint8_t *mask) {
    const uint64_t w = (uint64_t)box[MAXC] - box[MINC];
    uint64_t at = 0;
    memset(mask, 0, w * (uint64_t)(box[MAXR] - box[MINR]));
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t end = at + counts[i];
        while (i % 2 && at < end) { /* a column at a time */
            if (!h) {
                return MAPIX_E_ARGUMENT;
            }
            const uint64_t column = at / h, bottom = (column + 1) * h;
            const uint64_t stop = end < bottom ? end : bottom;
            const uint64_t first = at - column * h, behind = stop - column * h;
            if (column < box[MINC] || column >= box[MAXC] || first < box[MINR] ||
                behind > box[MAXR]) {
                return MAPIX_E_ARGUMENT;
            }
            uint8_t *to = mask + (first - box[MINR]) * w + (column - box[MINC]);
            for (uint64_t row = first; row < behind; row++, to += w) {
                *to = 1;
            }
            at = stop;
        }
        at = end;
    }
    return MAPIX_OK;
}

/* --- polygons -------------------------------------------------------------------------------------- */

enum { FIFTHS = 5, MIDDLE = 2 }; /* the middle of column c lies between fifths 5 c + 2 and 5 c + 3 */

typedef struct {
    uint32_t h, w;
    uint32_t *places;
    uint64_t capacity, n;
} crossings;

/* Add the crossing of the middle of a column at a height, in fifths. */
static void put_crossing(crossings *o, int64_t column, int64_t fifths) {
    double y = ((double)fifths + .5) / (double)FIFTHS - .5;
    y = y < 0 ? 0 : y > o->h ? o->h : ceil(y);
    if (o->n < o->capacity) {
        o->places[o->n] = (uint32_t)((uint64_t)column * o->h + (uint64_t)y);
    }
    o->n++;
}

static int64_t rounded_down(int64_t a, int64_t b) {
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

/* The sides of a polygon are lines of fifths: of the flat ones a fifth for each column of fifths, of the steep
 * ones a fifth for each row.  A middle is crossed between two such fifths, and the upper one counts. */
static void cross(crossings *o, int64_t x0, int64_t y0, int64_t x1, int64_t y1) {
    const int64_t dx = x0 < x1 ? x1 - x0 : x0 - x1, dy = y0 < y1 ? y1 - y0 : y0 - y1;
    const int flat = dx >= dy;
    if (flat ? x0 > x1 : y0 > y1) {
        const int64_t x = x0, y = y0;
        x0 = x1, y0 = y1, x1 = x, y1 = y;
    }
    const int64_t low = x0 < x1 ? x0 : x1, high = x0 < x1 ? x1 : x0;
    int64_t first = -rounded_down(MIDDLE - low, FIFTHS), last = rounded_down(high - MIDDLE - 1, FIFTHS);
    first = first < 0 ? 0 : first;
    last = last < (int64_t)o->w - 1 ? last : (int64_t)o->w - 1;
    const double slope = flat ? (double)(y1 - y0) / (double)(dx ? dx : 1) : (double)(x1 - x0) / (double)dy;
    for (int64_t column = first; column <= last; column++) {
        const int64_t left = FIFTHS * column + MIDDLE;
        if (flat) {
            const double t = (double)(left - x0);
            const int64_t a = (int64_t)((double)y0 + slope * t + .5);
            const int64_t b = (int64_t)((double)y0 + slope * (t + 1) + .5);
            put_crossing(o, column, a < b ? a : b);
            continue;
        }
        /* the first row of fifths that lies on the other side of the middle */
        int64_t t = (int64_t)(((double)left + .5 - (double)x0) / slope);
        t = t < 1 ? 1 : t > dy ? dy : t;
        for (;; t++) {
            const int64_t x = (int64_t)((double)x0 + slope * (double)t + .5);
            if (t == dy || (slope > 0 ? x > left : x <= left)) {
                break;
            }
        }
        for (; t > 1; t--) {
            const int64_t x = (int64_t)((double)x0 + slope * (double)(t - 1) + .5);
            if (!(slope > 0 ? x > left : x <= left)) {
                break;
            }
        }
        put_crossing(o, column, y0 + t - 1);
    }
}

static int64_t in_fifths(double pixels) { return (int64_t)((double)FIFTHS * pixels + .5); }

int mapix_polygon_crossings(const double *xy, uint64_t ncorners, uint32_t h, uint32_t w,
                            uint32_t *places, uint64_t capacity, uint64_t *n) {
    crossings o = {h, w, places, capacity, 0};
    if (h > 65535 || w > 65535) {
        return MAPIX_E_ARGUMENT;
    }
    for (uint64_t i = 0; i < 2 * ncorners; i++) {
        if (!(fabs(xy[i]) <= 1e8)) {
            return MAPIX_E_ARGUMENT;
        }
    }
    for (uint64_t i = 0; i < ncorners; i++) {
        const double *a = xy + 2 * i, *b = xy + 2 * (i + 1 < ncorners ? i + 1 : 0);
        cross(&o, in_fifths(a[0]), in_fifths(a[1]), in_fifths(b[0]), in_fifths(b[1]));
    }
    *n = o.n;
    return MAPIX_OK;
}
