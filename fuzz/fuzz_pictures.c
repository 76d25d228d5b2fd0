/* fuzz_pictures.c - rows of PNG files, polygons, tiles, and outlines, beside the definition of each.
 *
 * The first byte of an input chooses one; the rest are its arguments and its data. */
#include "fuzz.h"

#include <float.h>
#include <math.h>

static void fill(input *in, uint8_t *to, uint64_t nbytes) {
    for (uint64_t i = 0; i < nbytes; i++) {
        to[i] = take(in);
    }
}

/* --- rows of PNG files --------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *above, *rows; /* rows are finished before the place that is asked for */
    uint64_t nbytes;
} png_picture;

/* A byte of the picture; row 0 is the one above. */
static int png_byte(const png_picture *p, uint64_t row, uint64_t column, uint64_t back) {
    if (column < back) {
        return 0;
    }
    return row ? p->rows[(row - 1) * p->nbytes + column - back] : p->above[column - back];
}

static int png_guess(const png_picture *p, unsigned filter, uint64_t row, uint64_t column, uint64_t pixel) {
    const int left = png_byte(p, row + 1, column, pixel), up = png_byte(p, row, column, 0);
    const int corner = png_byte(p, row, column, pixel), guess = left + up - corner;
    const int candidates[3] = {left, up, corner};
    int best = 0;
    switch (filter) {
    case 1: return left;
    case 2: return up;
    case 3: return (int)floor((left + up) / 2.0);
    case 4:
        for (int k = 1; k < 3; k++) {
            best = abs(guess - candidates[k]) < abs(guess - candidates[best]) ? k : best;
        }
        return candidates[best];
    default: return 0;
    }
}

static void check_png(input *in) {
    const uint64_t nrows = take(in) % 20, nbytes = take(in) % 64;
    const uint32_t pixel = take(in) % 10;
    const unsigned unknown = take(in);
    uint8_t *above = block(nbytes), *rows = block(nrows * nbytes), *want = block(nrows * nbytes);
    uint8_t *filtered = block(nrows * (nbytes + 1));
    fill(in, above, nbytes);
    fill(in, filtered, nrows * (nbytes + 1));
    int usable = pixel > 0;
    const png_picture p = {above, want, nbytes};
    for (uint64_t r = 0; r < nrows; r++) {
        uint8_t *filter = &filtered[r * (nbytes + 1)];
        *filter = unknown == 255 ? *filter : *filter % 5;
        usable &= *filter < 5;
        for (uint64_t i = 0; i < nbytes && usable; i++) {
            want[r * nbytes + i] = (uint8_t)(filter[1 + i] + png_guess(&p, *filter, r, i, pixel));
        }
    }
    CHECK(mapix_png_rows(filtered, nrows, nbytes, pixel, above, rows) == (usable ? MAPIX_OK : MAPIX_E_ARGUMENT));
    CHECK(!usable || !nrows || !nbytes || !memcmp(rows, want, nrows * nbytes));
    free(above);
    free(rows);
    free(want);
    free(filtered);
}

/* --- polygons ------------------------------------------------------------------------------------ */

enum { MOST_CORNERS = 12, MOST_CROSSINGS = 1 << 15 };

static double a_coordinate(input *in, unsigned kind) {
    double d;
    uint64_t bits;
    switch (kind) {
    case 0: return (int8_t)take(in) / 5.0;
    case 1: return (int16_t)take_n(in, 2) / 64.0;
    case 2: return (int16_t)take_n(in, 2) * 3052.0; /* to the farthest, and a little beyond */
    default:
        bits = take_n(in, 8);
        memcpy(&d, &bits, sizeof d);
        return d;
    }
}

static int by_value(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The point of a side after `step` of n fifths, counted from its left or upper end. */
static void side_point(const int64_t *p, int flat, int64_t step, int64_t n, int64_t *point) {
    const int a = flat ? 0 : 1, b = flat ? 1 : 0; /* along the side, and across */
    const double rise = n ? (double)(p[2 + b] - p[b]) / (double)n : 0;
    point[a] = p[a] + step;
    point[b] = (int64_t)((double)p[b] + rise * (double)step + .5);
}

/* Follow a side fifth by fifth: where it goes from 5 c + 2 to 5 c + 3 or back, column c is crossed. */
static uint64_t slow_side(const int64_t *from, const int64_t *to, uint32_t h, uint32_t w, uint32_t *places,
                          uint64_t n) {
    const int64_t dx = llabs(to[0] - from[0]), dy = llabs(to[1] - from[1]), length = dx > dy ? dx : dy;
    const int flat = dx >= dy, turned = flat ? from[0] > to[0] : from[1] > to[1];
    const int64_t *first = turned ? to : from, *last = turned ? from : to;
    const int64_t side[4] = {first[0], first[1], last[0], last[1]};
    int64_t point[2], before[2];
    side_point(side, flat, 0, length, before);
    for (int64_t step = 1; step <= length; step++) {
        side_point(side, flat, step, length, point);
        const int64_t left = point[0] < before[0] ? point[0] : before[0];
        const int64_t top = point[1] < before[1] ? point[1] : before[1];
        if (point[0] != before[0] && left >= 0 && left % 5 == 2 && left / 5 < w) {
            const double y = ((double)top + .5) / 5 - .5;
            CHECK(n < MOST_CROSSINGS);
            places[n++] = (uint32_t)((uint32_t)(left / 5) * h + (uint32_t)ceil(fmin(fmax(y, 0), h)));
        }
        before[0] = point[0];
        before[1] = point[1];
    }
    return n;
}

static void check_polygon(input *in) {
    static uint32_t want[MOST_CROSSINGS];
    const unsigned kind = take(in) % 4, few = kind > 1 ? 3 : MOST_CORNERS;
    const uint64_t ncorners = take(in) % (few + 1);
    const uint8_t large = take(in);
    const uint32_t h = large & 1 ? (uint32_t)take_n(in, 3) : take(in), w = large & 2 ? (uint32_t)take_n(in, 3) : take(in);
    const unsigned lacking = large >> 2 & 3;
    double *xy = block(2 * ncorners * sizeof *xy);
    int64_t fifths[2 * MOST_CORNERS];
    int usable = h < 65536 && w < 65536;
    for (uint64_t i = 0; i < 2 * ncorners; i++) {
        xy[i] = a_coordinate(in, kind);
        const int near = !isnan(xy[i]) && xy[i] >= -1e8 && xy[i] <= 1e8;
        usable &= near;
        fifths[i] = near ? (int64_t)(5 * xy[i] + .5) : 0;
    }
    uint64_t n = 99, all = 99, slow = 0;
    const int status = mapix_polygon_crossings(xy, ncorners, h, w, NULL, 0, &all);
    CHECK(status == (usable ? MAPIX_OK : MAPIX_E_ARGUMENT));
    if (!usable || all > MOST_CROSSINGS * 16) {
        free(xy);
        return;
    }
    const uint64_t capacity = all - (lacking < all ? lacking : all);
    uint32_t *places = block(capacity * sizeof *places);
    CHECK(mapix_polygon_crossings(xy, ncorners, h, w, places, capacity, &n) == MAPIX_OK && n == all);
    for (uint64_t i = 0; i < capacity; i++) {
        CHECK(places[i] <= (uint64_t)h * w);
    }
    if (kind < 2) {
        for (uint64_t i = 0; i < ncorners; i++) {
            const uint64_t next = (i + 1) % ncorners;
            slow = slow_side(fifths + 2 * i, fifths + 2 * next, h, w, want, slow);
        }
        CHECK(slow == all);
        if (capacity == all && all) { /* the core goes along some sides the other way */
            qsort(places, all, sizeof *places, by_value);
            qsort(want, slow, sizeof *want, by_value);
            CHECK(!memcmp(places, want, all * sizeof *places));
        }
    }
    free(places);
    free(xy);
}

/* --- tiles --------------------------------------------------------------------------------------- */

enum { MOST_PICTURES = 3, NTYPES = 8, MOST_SIDE = 512, MOST_NUMBERS = 1 << 14 };

static const unsigned item_nbytes[NTYPES] = {1, 1, 2, 2, 4, 4, 4, 8};

typedef struct {
    mapix_picture picture;
    uint8_t *bytes;
} drawn;

static void put_number(uint8_t *to, unsigned type, uint32_t bits) {
    static const float special[4] = {NAN, INFINITY, -INFINITY, 0};
    const float f = bits % 7 ? (float)(int32_t)bits / 256 : special[bits / 7 % 4];
    const double d = f;
    if (type == MAPIX_TILE_F32) {
        memcpy(to, &f, sizeof f);
    } else if (type == MAPIX_TILE_F64) {
        memcpy(to, &d, sizeof d);
    } else {
        memcpy(to, &bits, item_nbytes[type]);
    }
}

/* A picture with its axes in any order in memory, some of them backwards. */
static drawn take_picture(input *in) {
    const unsigned kind = take(in), order = take(in), pattern = take(in);
    uint32_t sides[3] = {take(in), take(in), take(in) % 5};
    if (kind & 8) {
        sides[kind >> 4 & 1] = (uint32_t)take_n(in, 2) % 9000;
        sides[!(kind >> 4 & 1)] %= 20;
    }
    if (sides[0] * sides[1] * sides[2] > MOST_NUMBERS) { /* the reference reads each of them several times */
        sides[0] %= 128;
        sides[1] %= 128;
        sides[2] = 1;
    }
    drawn d = {.picture = {.type = kind % 8, .h = sides[0], .w = sides[1], .c = sides[2]}};
    const unsigned item = item_nbytes[d.picture.type];
    const uint64_t nbytes = (uint64_t)sides[0] * sides[1] * sides[2] * item;
    int64_t steps[3], step = item, begin = 0;
    for (unsigned k = 0; k < 3; k++) {
        const unsigned axis = order & 1 ? k : (k + (order >> 1 & 3)) % 3; /* the innermost first */
        steps[axis] = order >> (3 + axis) & 1 ? -step : step;
        begin += steps[axis] < 0 ? step * ((int64_t)sides[axis] - 1) : 0;
        step *= sides[axis];
    }
    d.bytes = block(nbytes);
    uint32_t bits = pattern;
    for (uint64_t at = 0; at < nbytes; at += item) {
        bits = pattern < 4 ? pattern * 255 : bits * 1664525 + 1013904223 + (uint32_t)at;
        put_number(d.bytes + at, d.picture.type, pattern & 1 ? bits >> 11 : bits);
    }
    d.picture.row = steps[0], d.picture.col = steps[1], d.picture.channel = steps[2];
    d.picture.data = nbytes ? d.bytes + begin : d.bytes;
    if ((kind & 0xe0) == 0xe0) {
        d.picture.data = NULL;
    }
    d.picture.type += pattern == 255 ? NTYPES : 0;
    return d;
}

/* Numbers lie at any address.  Copies of a size that the type chooses took half of the time. */
typedef union __attribute__((packed, may_alias)) {
    uint8_t u8;
    int8_t i8;
    uint16_t u16;
    int16_t i16;
    uint32_t u32;
    int32_t i32;
    float f32;
    double f64;
} any_number;

static double number_at(const mapix_picture *p, uint32_t y, uint32_t x, uint32_t channel) {
    const uint8_t *at = (const uint8_t *)p->data + (int64_t)y * p->row + (int64_t)x * p->col +
                        (int64_t)channel * p->channel;
    const any_number *v = (const any_number *)at;
    switch (p->type) {
    case MAPIX_TILE_U8: return v->u8;
    case MAPIX_TILE_I8: return v->i8;
    case MAPIX_TILE_U16: return v->u16;
    case MAPIX_TILE_I16: return v->i16;
    case MAPIX_TILE_U32: return v->u32;
    case MAPIX_TILE_I32: return v->i32;
    case MAPIX_TILE_F32: return (double)v->f32;
    default: return v->f64;
    }
}

/* Lines that pixel i of n shows of a picture of `all`: first and last, and how far apart they are. */
static void shown(uint32_t i, uint32_t n, uint32_t all, uint32_t *first, uint32_t *stop, uint32_t *step) {
    *first = (uint32_t)floor((double)i * all / n);
    *stop = (uint32_t)floor((i + 1.0) * all / n);
    *stop += *stop == *first;
    *step = (*stop - *first) / 8 > 1 ? (*stop - *first) / 8 : 1;
    CHECK((*stop - *first + *step - 1) / *step <= 15);
}

typedef struct {
    long double sum;
    uint64_t count;
    double low, high;
} shown_numbers;

static shown_numbers look(const mapix_picture *p, const mapix_tile *tile, uint32_t y, uint32_t x,
                          uint32_t channel) {
    shown_numbers all = {0, 0, DBL_MAX, -DBL_MAX};
    uint32_t top, bottom, down, left, right, across;
    shown(y, tile->h, p->h, &top, &bottom, &down);
    shown(x, tile->w, p->w, &left, &right, &across);
    for (uint32_t i = top; i < bottom; i += down) {
        for (uint32_t k = left; k < right; k += across) {
            const double d = number_at(p, i, k, channel);
            if (isfinite(d)) {
                all.sum += d;
                all.count++;
                all.low = fmin(all.low, d);
                all.high = fmax(all.high, d);
            }
        }
    }
    return all;
}

static uint32_t slow_side_of(uint32_t n, uint32_t longer, uint32_t size) {
    const double scaled = longer <= size ? n : floor((double)n * size / longer + .5);
    return scaled < 1 ? 1 : (uint32_t)scaled;
}

static uint32_t shown_channel(const mapix_picture *p, const mapix_tiling *how, uint32_t k) {
    if (how->nchannels == 3) {
        return p->c >= 3 ? k : 0;
    }
    return how->channel < p->c ? how->channel : p->c - 1;
}

static void check_tile(const mapix_picture *p, const mapix_tiling *how, const mapix_tile *tile,
                       const uint8_t *out) {
    const uint32_t longer = p->h > p->w ? p->h : p->w;
    CHECK(tile->h == slow_side_of(p->h, longer, how->size) && tile->w == slow_side_of(p->w, longer, how->size));
    shown_numbers all = {0, 0, DBL_MAX, -DBL_MAX};
    for (uint32_t y = 0; how->own_range && y < tile->h; y++) {
        for (uint32_t i = 0; i < tile->w * how->nchannels; i++) {
            const uint32_t channel = shown_channel(p, how, i % how->nchannels);
            const shown_numbers some = look(p, tile, y, i / how->nchannels, channel);
            all.low = fmin(all.low, some.low);
            all.high = fmax(all.high, some.high);
        }
    }
    const double low = !how->own_range ? how->low : all.low > all.high ? 0 : all.low;
    const double high = !how->own_range ? how->high : all.low > all.high ? 0 : all.high;
    CHECK(tile->low == low && tile->high == high);
    for (uint32_t y = 0; y < tile->h; y++) {
        for (uint32_t i = 0; i < tile->w * how->nchannels; i++) {
            const uint32_t channel = shown_channel(p, how, i % how->nchannels);
            const shown_numbers some = look(p, tile, y, i / how->nchannels, channel);
            const int byte = out[(uint64_t)y * tile->w * how->nchannels + i];
            if (!some.count) {
                CHECK(byte == 0);
                continue;
            }
            const long double mean = some.sum / some.count - (long double)low;
            const long double level = high > low ? mean * 255 / ((long double)high - (long double)low) : mean;
            const long double want = level < 0 ? 0 : level > 255 ? 255 : level;
            CHECK(fabsl(byte - want) <= .5L + 1e-6L);
        }
    }
}

static void check_tiles(input *in) {
    const unsigned kind = take(in), n = 1 + take(in) % MOST_PICTURES, lacking = take(in);
    mapix_tiling how = {.size = 1 + take(in) % 70, .nchannels = kind & 1 ? 3 : 1, .channel = kind >> 1 & 3};
    how.own_range = kind >> 3 & 1;
    how.low = (int8_t)take(in) * (kind & 16 ? 300.0 : 1);
    how.high = (int8_t)take(in) * (kind & 32 ? 1e6 : 2);
    how.size += (kind & 0xc0) == 0xc0 ? 450 : 0; /* too large from 513 on */
    drawn pictures[MOST_PICTURES];
    mapix_picture *given = block(n * sizeof *given);
    mapix_tile *tiles = block(n * sizeof *tiles);
    uint64_t need = 0, at = 0;
    int usable = how.size <= MOST_SIDE;
    for (unsigned k = 0; k < n; k++) {
        pictures[k] = take_picture(in);
        const mapix_picture *p = &pictures[k].picture;
        given[k] = *p;
        const uint32_t longer = p->h > p->w ? p->h : p->w;
        usable &= !p->data || (p->h && p->w && p->c && p->type < NTYPES);
        need += p->data && longer ? (uint64_t)slow_side_of(p->h, longer, how.size) *
                                        slow_side_of(p->w, longer, how.size) * how.nchannels
                                  : 0;
    }
    const uint64_t less = lacking > 250 ? lacking - 250 : 0, room = less < need ? need - less : need;
    uint8_t *out = block(room);
    usable &= room == need;
    CHECK(mapix_tiles(given, n, &how, out, room, tiles) == (usable ? MAPIX_OK : MAPIX_E_ARGUMENT));
    for (unsigned k = 0; k < n; k++) {
        if (usable) {
            CHECK(tiles[k].at == at);
            if (given[k].data) {
                check_tile(&given[k], &how, &tiles[k], out + at);
            } else {
                CHECK(tiles[k].h == 0 && tiles[k].w == 0);
            }
            at += (uint64_t)tiles[k].h * tiles[k].w * how.nchannels;
        }
        free(pictures[k].bytes);
    }
    for (uint32_t k = 0; k < 3; k++) {
        const mapix_tiling wrong = {.size = k == 0 ? 0 : k == 1 ? MOST_SIDE + 1 : 9, .nchannels = k == 2 ? 2 : 1};
        CHECK(mapix_tiles(given, n, &wrong, out, room, tiles) == MAPIX_E_ARGUMENT);
    }
    const mapix_tiling right = {.size = 9, .nchannels = 1};
    CHECK(mapix_tiles(given, n, NULL, out, room, tiles) == MAPIX_E_ARGUMENT);
    CHECK(mapix_tiles(NULL, 1, &right, out, room, tiles) == MAPIX_E_ARGUMENT);
    CHECK(mapix_tiles(given, 1, &right, NULL, room, tiles) == MAPIX_E_ARGUMENT);
    CHECK(mapix_tiles(given, 1, &right, out, room, NULL) == MAPIX_E_ARGUMENT);
    CHECK(mapix_tiles(NULL, 0, &right, NULL, 0, NULL) == MAPIX_OK);
    free(out);
    free(given);
    free(tiles);
}

/* --- outlines of masks ---------------------------------------------------------------------------- */

static int pixel_at(const uint8_t *mask, int h, int w, int y, int x) {
    return y >= 0 && x >= 0 && y < h && x < w && mask[y * w + x] != 0;
}

/* Walk one ring side by side: pixels to the right, none to the left, no corner twice; how many sides. */
static unsigned walk_ring(const uint8_t *mask, int h, int w, const int32_t *ring, uint32_t n, int minr, int minc,
                          uint8_t *used) {
    unsigned nsides = 0;
    CHECK(n >= 4);
    for (uint32_t i = 0; i < n; i++) {
        const int32_t *p = ring + 2 * i, *q = ring + 2 * ((i + 1) % n), *r = ring + 2 * ((i + 2) % n);
        const int dx = (q[0] > p[0]) - (q[0] < p[0]), dy = (q[1] > p[1]) - (q[1] < p[1]);
        CHECK((dx == 0) != (dy == 0));
        CHECK((q[0] == r[0]) == (dx != 0)); /* each corner turns */
        for (uint32_t k = 0; k < i; k++) {
            CHECK(ring[2 * k] != p[0] || ring[2 * k + 1] != p[1]);
        }
        if (dx > 0) { /* no side to the right begins earlier than the first one */
            CHECK(ring[2] > ring[0] && (p[1] > ring[1] || (p[1] == ring[1] && p[0] >= ring[0])));
        }
        for (int x = p[0] - minc, y = p[1] - minr; x != q[0] - minc || y != q[1] - minr; x += dx, y += dy) {
            /* the pixel to the right of the side from (x, y) on, and the one to the left */
            const int right_y = dx ? y - (dx < 0) : y - (dy < 0), right_x = dx ? x - (dx < 0) : x - (dy > 0);
            const int left_y = dx ? y - (dx > 0) : right_y, left_x = dx ? right_x : x - (dy < 0);
            CHECK(pixel_at(mask, h, w, right_y, right_x) && !pixel_at(mask, h, w, left_y, left_x));
            uint8_t *side = &used[4 * (right_y * w + right_x) + (dx ? dx > 0 : 2 + (dy > 0))];
            CHECK(!*side);
            *side = 1;
            nsides++;
        }
    }
    return nsides;
}

static void check_outlines(input *in) {
    const int h = take(in) % 18, w = take(in) % 70, minr = take(in), minc = take(in);
    const unsigned small = take(in);
    uint8_t *mask = block((uint64_t)(h * w)), *used = block(4 * (uint64_t)(h * w));
    unsigned want = 0;
    for (int i = 0; i < h * w; i++) {
        mask[i] = (uint8_t)(take(in) & 3);
    }
    memset(used, 0, 4 * (size_t)(h * w));
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++) {
            const int around = pixel_at(mask, h, w, y - 1, x) + pixel_at(mask, h, w, y + 1, x) +
                               pixel_at(mask, h, w, y, x - 1) + pixel_at(mask, h, w, y, x + 1);
            want += mask[y * w + x] ? 4 - (unsigned)around : 0;
        }
    }
    const uint64_t capacity = small < 128 ? want : small & 31;
    uint64_t *scratch = block(8 * mapix_outlines_scratch((uint32_t)h, (uint32_t)w, capacity));
    int32_t *points = block(8 * capacity);
    uint32_t *ends = block(4 * capacity);
    mapix_outline_counts counts;
    const int status = mapix_outlines(mask, (uint32_t)h, (uint32_t)w, (uint32_t)minr, (uint32_t)minc, want, scratch,
                                      points, ends, capacity, &counts);
    CHECK(status == MAPIX_OK || (capacity < want && status == MAPIX_E_SHAPE));
    if (!status) {
        unsigned nsides = 0;
        uint32_t begin = 0;
        for (uint64_t i = 0; i < counts.nrings; begin = ends[i++]) {
            nsides += walk_ring(mask, h, w, points + 2 * begin, ends[i] - begin, minr, minc, used);
            const int32_t *before = points + 2 * (i > 0 ? (i > 1 ? ends[i - 2] : 0) : begin), *here = points + 2 * begin;
            CHECK(counts.nsplit || i == 0 || before[1] < here[1] || (before[1] == here[1] && before[0] < here[0]));
        }
        CHECK(nsides == want && begin == counts.npoints);
        CHECK(!want || mapix_outlines(mask, (uint32_t)h, (uint32_t)w, 0, 0, want - 1, scratch, points, ends,
                                      capacity, &counts) == MAPIX_E_ARGUMENT);
    }
    free(ends);
    free(points);
    free(scratch);
    free(used);
    free(mask);
}

/* Sides and places that no image has. */
static void check_outline_limits(void) {
    uint64_t scratch[64];
    int32_t points[2];
    uint32_t ends[1];
    mapix_outline_counts counts;
    const uint32_t wrong[4][4] = {{65536, 0, 0, 0}, {0, 65536, 0, 0}, {0, 0, 65536, 0}, {0, 0, 0, 65536}};
    for (int k = 0; k < 4; k++) {
        CHECK(mapix_outlines(NULL, wrong[k][0], wrong[k][1], wrong[k][2], wrong[k][3], 9, scratch, points, ends, 1,
                             &counts) == MAPIX_E_ARGUMENT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    input in = {data, nbytes};
    const unsigned which = take(&in);
    if (which >= 192) {
        check_outlines(&in);
        check_outline_limits();
        return 0;
    }
    switch (which % 3) {
    case 0: check_png(&in); break;
    case 1: check_polygon(&in); break;
    default: check_tiles(&in); break;
    }
    return 0;
}
