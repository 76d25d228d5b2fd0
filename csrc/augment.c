/* augment.c - see augment.h; and mixtures of images. */
#include "augment.h"
#include "simd.h"

#include <string.h>

#ifdef __clang__ /* a mixture is rounded after each operation, as numpy does; gcc does so for -std=c11 */
#pragma STDC FP_CONTRACT OFF
#endif

enum {
    MOST_SIDE = 65535,
    WORDS = 4,   /* random numbers per record */
    ROOM = 4032, /* bytes that are put in order at once; divisible by 3 */
    SLACK = 16,  /* after each plane of these */
    LONG = 64,   /* pixels of a line that is converted at its place */
};
enum { OF_WINDOW, OF_FLIPS, OF_CUT };

#if MAPIX_LEVELS > 1
/* For pixels of c bytes: the byte of 16 that is the j-th of their pixels in reverse order. */
#define OF(c, j) (uint8_t)((j) < 16 / (c) * (c) ? 16 - (c) * ((j) / (c) + 1) + (j) % (c) : 0)
#define OF_4(c, j) OF(c, j), OF(c, (j) + 1), OF(c, (j) + 2), OF(c, (j) + 3)
#define OF_16(c) {OF_4(c, 0), OF_4(c, 4), OF_4(c, 8), OF_4(c, 12)}
static const uint8_t reversing[5][16] = {{0}, OF_16(1), OF_16(2), OF_16(3), OF_16(4)};
#endif

#define BODY "augment_body.h"
#include "each_level.h"

/* --- what is chosen ----------------------------------------------------------------------------- */

/* A random number of 64 bits for each number i: the finaliser of SplitMix64. */
static uint64_t random_word(uint64_t key, uint64_t i) {
    uint64_t k = key + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    k = (k ^ k >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    k = (k ^ k >> 27) * UINT64_C(0x94d049bb133111eb);
    return k ^ k >> 31;
}

static int64_t below(uint64_t word, uint64_t n) { /* 0..n-1; of a word of 32 bits */
    return (int64_t)(word * n >> 32);
}

static uint64_t low(uint64_t word) {
    return word & UINT32_MAX;
}

/* The window begins at pixel top, left of the canvas, or before it.  The part that is cut out has its corners in
 * the output. */
typedef struct {
    int64_t top, left;
    int flip, flip_vertical;
    int64_t cut_top, cut_left, cut_bottom, cut_right;
} choices;

static int64_t clipped(int64_t x, int64_t most) {
    return x < 0 ? 0 : x < most ? x : most;
}

static choices choose(const mapix_augment *a, uint64_t position, uint64_t canvas_h, uint64_t canvas_w) {
    choices found = {0};
    const uint64_t first = position * WORDS;
    const uint64_t room_y = canvas_h + 2 * (uint64_t)a->pad_h - a->h;
    const uint64_t room_x = canvas_w + 2 * (uint64_t)a->pad_w - a->w;
    uint64_t word = random_word(a->key, first + OF_WINDOW);
    found.top = below(word >> 32, room_y + 1) - a->pad_h;
    found.left = below(low(word), room_x + 1) - a->pad_w;
    word = random_word(a->key, first + OF_FLIPS);
    found.flip = word >> 32 < a->flip;
    found.flip_vertical = low(word) < a->flip_vertical;
    if (a->cut_h) {
        word = random_word(a->key, first + OF_CUT);
        const int64_t top = below(word >> 32, a->h) - a->cut_h / 2;
        const int64_t left = below(low(word), a->w) - a->cut_w / 2;
        found.cut_top = clipped(top, a->h);
        found.cut_left = clipped(left, a->w);
        found.cut_bottom = clipped(top + a->cut_h, a->h);
        found.cut_right = clipped(left + a->cut_w, a->w);
    }
    return found;
}

/* --- pixels ------------------------------------------------------------------------------------- */

/* An image on its way into the batch.  Lines [y, y_end) and columns [x, x_end) of the output get pixels of the
 * record; the first of these, before the output is mirrored, is the record's pixel `begin`. */
typedef struct {
    const mapix_gather *gather;
    const mapix_kernels *kernels;
    void (*reverse)(uint8_t *to, const uint8_t *from, size_t n, size_t c);
    enum { PLANES, TRIPLES, PIXELS } how;
    size_t item, nchannels;
    size_t from_row, from_col, from_channel; /* steps in bytes of the record */
    size_t to_row, to_col, to_channel;       /* steps in elements of the output */
    size_t y, y_end, x, x_end;
    int flip, flip_vertical;
} work;

/* Write n pixels in a row, from bytes that lie in a row as well: of each channel in turn; of three planes together;
 * or as numbers without regard to channels.  `to` and `from` are those of the first channel. */
static void convert(const work *p, uint8_t *to, const uint8_t *from, size_t from_channel, size_t first,
                    size_t nchannels, size_t n) {
    const mapix_gather *g = p->gather;
    if (p->how == TRIPLES) {
        p->kernels->triple[g->dtype](to, from, from_channel, n, g->affine);
        return;
    }
    for (size_t k = 0; k < nchannels; k++) {
        const float a = g->affine ? g->affine[2 * (first + k)] : 1.0f;
        const float b = g->affine ? g->affine[2 * (first + k) + 1] : 0.0f;
        if (p->how == PIXELS) {
            p->kernels->line[g->dtype](to, 1, from, 1, n * nchannels, a, b);
            return;
        }
        p->kernels->line[g->dtype](to + k * p->to_channel * p->item, p->to_col, from + k * from_channel,
                                   p->from_col, n, a, b);
    }
}

/* The record's pixel for line y and column x of the output, of which n columns are to follow. */
static const uint8_t *source_of(const work *p, const uint8_t *image, size_t y, size_t x, size_t n) {
    const size_t line = p->flip_vertical ? p->y_end - 1 - y : y - p->y;
    const size_t column = p->flip ? p->x_end - x - n : x - p->x;
    return image + line * p->from_row + column * p->from_col;
}

/* Copy the record's pixels to their lines and columns: of `planes` channels, or of all if they lie together.
 *
 * Bytes are put in order in a buffer, several lines at once, and then converted at once: kernels are fast only for
 * more pixels than a short line has.  What lies beside the record's columns is converted, too, and gets its value
 * later. */
static void put_channels(const work *p, uint8_t *to, const uint8_t *image, size_t first, size_t planes) {
    uint8_t buffer[ROOM + 3 * SLACK];
    const int together = p->from_col > 1;
    const size_t w = p->gather->augment->w, each = together ? p->nchannels : planes;
    const size_t nchannels = together ? p->nchannels : planes, from_channel = p->from_channel;
    const size_t high = p->y_end - p->y, wide = p->x_end - p->x;
    if (!p->flip && !p->flip_vertical && wide == w && p->from_row == w * p->from_col) {
        uint8_t *target = to + p->y * p->to_row * p->item; /* one line on both sides */
        convert(p, target, image, from_channel, first, nchannels, high * w);
        return;
    }
    const int narrow = w * each <= ROOM && (p->flip || wide < LONG);
    const size_t columns = narrow ? w : p->flip ? ROOM / each : wide, ncolumns = columns ? columns : 1;
    const size_t lines = narrow ? ROOM / (w * each) : 1, plane = ROOM / each + SLACK;
    for (size_t k = 0; narrow && wide < w && k < (together ? 1 : planes); k++) {
        memset(buffer + k * plane, 0, (high < lines ? high : lines) * w * p->from_col);
    }
    for (size_t y = p->y; y < p->y_end; y += lines) {
        const size_t nlines = p->y_end - y < lines ? p->y_end - y : lines;
        for (size_t x = p->x; x < p->x_end; x += ncolumns) {
            const size_t n = p->x_end - x < ncolumns ? p->x_end - x : ncolumns;
            const size_t begin = narrow ? 0 : x;
            uint8_t *target = to + (y * p->to_row + begin * p->to_col) * p->item;
            if (!narrow && (!p->flip || n == 1)) {
                const uint8_t *from = source_of(p, image, y, x, n);
                convert(p, target, from, from_channel, first, nchannels, n);
                continue;
            }
            for (size_t k = 0; k < (together ? 1 : planes); k++) {
                for (size_t i = 0; i < nlines; i++) {
                    const uint8_t *from = source_of(p, image, y + i, x, n) + k * from_channel;
                    uint8_t *line = buffer + k * plane + (i * w + x - begin) * p->from_col;
                    if (p->flip) {
                        p->reverse(line, from, n, p->from_col);
                    } else {
                        memcpy(line, from, n * p->from_col);
                    }
                }
            }
            const size_t count = narrow ? nlines * w : n;
            convert(p, target, buffer, together ? 1 : plane, first, nchannels, count);
        }
    }
}

/* Give lines [y, y_end) and columns [x, x_end) of the output the value of padding. */
static void fill(const work *p, uint8_t *to, size_t y, size_t y_end, size_t x, size_t x_end) {
    const mapix_gather *g = p->gather;
    const int planar = g->layout == MAPIX_NCHW;
    const size_t w = g->augment->w, n = (x_end - x) * (planar ? 1 : g->c), nplanes = planar ? g->c : 1;
    for (size_t plane = 0; plane < nplanes && x < x_end; plane++) {
        const size_t lines = x_end - x == w ? y_end - y : 1; /* at once */
        for (size_t line = y; line < y_end; line += lines) {
            uint8_t *target = to + (plane * p->to_channel + line * p->to_row + x * p->to_col) * p->item;
            mapix_fill(target, lines * n * p->item, g->dtype, g->pad_value);
        }
    }
}

static work work_of(const mapix_gather *g, const mapix_kernels *kernels, const vimh_header *r,
                    int interleaved) {
    const mapix_augment *a = g->augment;
    const int nhwc = g->layout == MAPIX_NHWC, together = interleaved && r->c > 1;
    work p = {.gather = g, .kernels = kernels, .how = PLANES, .item = item_nbytes(g->dtype), .nchannels = r->c};
    p.reverse = MAPIX_AT_LEVEL(&reverse);
    p.from_col = together ? r->c : 1;
    p.from_row = r->w * p.from_col;
    p.from_channel = together ? 1 : (size_t)r->h * r->w;
    p.to_col = nhwc ? g->c : 1;
    p.to_row = a->w * p.to_col;
    p.to_channel = nhwc ? 1 : (size_t)a->h * a->w;
    if (nhwc && r->c == 3 && g->c == 3 && !together) {
        p.how = TRIPLES;
    } else if (nhwc && together && r->c == g->c) {
        p.how = PIXELS;
        for (size_t k = 1; g->dtype != MAPIX_U8 && k < r->c; k++) {
            if (memcmp(g->affine, g->affine + 2 * k, 2 * sizeof(float)) != 0) {
                p.how = PLANES;
            }
        }
    }
    return p;
}

/* --- an image ----------------------------------------------------------------------------------- */

static int fits(const mapix_gather *g, const vimh_header *r) {
    const mapix_augment *a = g->augment;
    const int larger = g->h && (r->h > g->h || r->w > g->w);
    const int smaller = g->h && (r->h < g->h || r->w < g->w);
    return r->c <= g->c && (r->c == g->c || (g->fit & MAPIX_PAD)) && (!larger || (g->fit & MAPIX_CROP)) &&
           (!smaller || (g->fit & MAPIX_PAD)) &&
           (g->h || (r->h + 2 * (uint64_t)a->pad_h >= a->h && r->w + 2 * (uint64_t)a->pad_w >= a->w));
}

int mapix_augment_usable(const mapix_gather *g) {
    const mapix_augment *a = g->augment;
    const uint64_t always = UINT64_C(1) << 32;
    return a->positions && a->h && a->w && a->h <= MOST_SIDE && a->w <= MOST_SIDE && a->pad_h <= MOST_SIDE &&
           a->pad_w <= MOST_SIDE && a->cut_h <= MOST_SIDE && a->cut_w <= MOST_SIDE && !a->cut_h == !a->cut_w &&
           a->flip <= always && a->flip_vertical <= always && !g->h == !g->w && g->h <= MOST_SIDE &&
           g->w <= MOST_SIDE &&
           (!g->h || (g->h + 2 * (uint64_t)a->pad_h >= a->h && g->w + 2 * (uint64_t)a->pad_w >= a->w));
}

int mapix_augment_image(const mapix_gather *g, const mapix_kernels *kernels, uint64_t i,
                        const vimh_header *r, int interleaved, const uint8_t *image, uint8_t *to,
                        mapix_where *where) {
    const mapix_augment *a = g->augment;
    if (MAPIX_UNLIKELY(!fits(g, r))) {
        where->expected = packed_shape((uint16_t)a->h, (uint16_t)a->w, (uint16_t)g->c);
        where->got = packed_shape(r->h, r->w, r->c);
        return MAPIX_E_SHAPE;
    }
    const int64_t canvas_h = g->h ? g->h : r->h, canvas_w = g->w ? g->w : r->w, h = a->h, w = a->w;
    const choices found = choose(a, (uint64_t)a->positions[i], (uint64_t)canvas_h, (uint64_t)canvas_w);
    /* what there is of the record on the canvas, and its first pixel there */
    const int64_t high = r->h < canvas_h ? r->h : canvas_h, wide = r->w < canvas_w ? r->w : canvas_w;
    const int64_t half = g->fit & MAPIX_CENTRE ? 1 : 0;
    const int64_t skip_y = half * ((r->h - high) / 2), skip_x = half * ((r->w - wide) / 2);
    /* lines [y, y_end) and columns [x, x_end) of the window, before it is mirrored, have pixels */
    const int64_t y = clipped(-found.top, h), y_end = clipped(high - found.top, h);
    const int64_t x = clipped(-found.left, w), x_end = clipped(wide - found.left, w);
    work p = work_of(g, kernels, r, interleaved);
    p.flip = found.flip;
    p.flip_vertical = found.flip_vertical;
    p.y = (size_t)(p.flip_vertical ? h - y_end : y);
    p.y_end = (size_t)(p.flip_vertical ? h - y : y_end);
    p.x = (size_t)(p.flip ? w - x_end : x);
    p.x_end = (size_t)(p.flip ? w - x : x_end);
    if (p.y >= p.y_end || p.x >= p.x_end || r->c < g->c) {
        fill(&p, to, 0, a->h, 0, a->w);
    }
    if (p.y < p.y_end && p.x < p.x_end) {
        const uint64_t from_y = (uint64_t)(skip_y + found.top + y), from_x = (uint64_t)(skip_x + found.left + x);
        const uint8_t *begin = image + from_y * p.from_row + from_x * p.from_col;
        const size_t planes = p.from_col > 1 ? r->c : p.how == TRIPLES ? 3 : 1;
        for (size_t k = 0; k < r->c; k += planes) {
            put_channels(&p, to + k * p.to_channel * p.item, begin + k * p.from_channel, k, planes);
        }
        fill(&p, to, 0, p.y, 0, a->w);
        fill(&p, to, p.y_end, a->h, 0, a->w);
        fill(&p, to, p.y, p.y_end, 0, p.x);
        fill(&p, to, p.y, p.y_end, p.x_end, a->w);
    }
    if (a->cut_h) {
        fill(&p, to, (size_t)found.cut_top, (size_t)found.cut_bottom, (size_t)found.cut_left,
             (size_t)found.cut_right);
    }
    return MAPIX_OK;
}

/* --- mixtures ----------------------------------------------------------------------------------- */

int mapix_mix(float *images, uint64_t nimages, uint64_t size, const float *shares) {
    void (*const both)(float *restrict, float *restrict, size_t, float, float) = MAPIX_AT_LEVEL(&mix);
    if (nimages && size && (!images || !shares)) {
        return MAPIX_E_ARGUMENT;
    }
    for (uint64_t i = 0; size && i < nimages / 2; i++) {
        const uint64_t k = nimages - 1 - i;
        both(images + i * size, images + k * size, size, shares[i], shares[k]);
    }
    return MAPIX_OK;
}
