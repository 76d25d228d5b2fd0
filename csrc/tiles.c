/* tiles.c - small pictures of arrays of numbers, for a viewer: scaled to bytes. */
#include "mapix.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Numbers of a source that are averaged for a pixel of a tile, at most, in each direction: so the cost of
 * a tile does not depend on the size of its picture. */
enum { MOST_SAMPLES = 8, MOST_SIDE = 512, MOST_SUMS = 8192 };

/* Numbers of up to HUGE_DOUBLE can be added and subtracted; larger ones are first multiplied by SMALL_UNIT. */
#define HUGE_DOUBLE 1e300
#define SMALL_UNIT 0x1p-10

/* Lines or columns of a picture that become one of a tile: begin, begin + step ... below end. */
typedef struct {
    uint32_t begin, end, step;
} stretch;

static void stretches(stretch *to, uint32_t ntiles, uint32_t n) {
    for (uint32_t i = 0; i < ntiles; i++) {
        const uint32_t begin = (uint32_t)((uint64_t)i * n / ntiles);
        const uint32_t end = (uint32_t)(((uint64_t)i + 1) * n / ntiles);
        const uint32_t step = (end - begin) / MOST_SAMPLES;
        to[i] = (stretch){begin, end > begin ? end : begin + 1, step ? step : 1};
    }
}

/* One channel of a picture, and where it goes. */
typedef struct {
    const uint8_t *data;
    int64_t row, col; /* byte steps */
    const stretch *lines, *columns;
    uint32_t h, w;    /* of the tile */
    uint8_t *to;
    uint32_t to_step;
    double low, scale;
    double unit; /* of the three above and of sums: below 1 where sums of doubles might overflow */
} plane;

static uint8_t level(const plane *p, double number) {
    const double x = (number - p->low) * p->scale;
    return (uint8_t)(x >= 255 ? 255 : x > 0 ? rint(x) : 0); /* NaN: 0 */
}

/* For each type: the range of the numbers that a tile shows, and the tile. */
#define PLANES(NAME, TYPE, FINITE, VALUE)                                                                  \
    static void range_##NAME(const plane *p, double *low, double *high) {                           \
        for (uint32_t y = 0; y < p->h; y++) {                                                        \
            for (uint32_t i = p->lines[y].begin; i < p->lines[y].end; i += p->lines[y].step) {       \
                const uint8_t *line = p->data + (int64_t)i * p->row;                                 \
                for (uint32_t x = 0; x < p->w; x++) {                                                \
                    const stretch s = p->columns[x];                                                 \
                    for (uint32_t k = s.begin; k < s.end; k += s.step) {                             \
                        TYPE number;                                                                 \
                        memcpy(&number, line + (int64_t)k * p->col, sizeof number);                  \
                        if (FINITE) {                                                                \
                            const double value = (double)number;                                     \
                            *low = value < *low ? value : *low;                                      \
                            *high = value > *high ? value : *high;                                   \
                        }                                                                            \
                    }                                                                                \
                }                                                                                    \
            }                                                                                        \
        }                                                                                            \
    }                                                                                                \
    static void draw_##NAME(const plane *p) {                                                        \
        for (uint32_t y = 0; y < p->h; y++) {                                                        \
            const stretch lines = p->lines[y];                                                       \
            uint8_t *to = p->to + (uint64_t)y * p->w * p->to_step;                                   \
            for (uint32_t x = 0; x < p->w; x++) {                                                    \
                const stretch s = p->columns[x];                                                     \
                double sum = 0;                                                                      \
                uint32_t count = 0;                                                                  \
                for (uint32_t i = lines.begin; i < lines.end; i += lines.step) {                     \
                    const uint8_t *line = p->data + (int64_t)i * p->row;                             \
                    for (uint32_t k = s.begin; k < s.end; k += s.step) {                             \
                        TYPE number;                                                                 \
                        memcpy(&number, line + (int64_t)k * p->col, sizeof number);                  \
                        if (FINITE) {                                                                \
                            sum += (VALUE);                                                          \
                            count++;                                                                 \
                        }                                                                            \
                    }                                                                                \
                }                                                                                    \
                to[(uint64_t)x * p->to_step] = count ? level(p, sum / count) : 0;                    \
            }                                                                                        \
        }                                                                                            \
    }

PLANES(u8, uint8_t, 1, (double)number)
PLANES(i8, int8_t, 1, (double)number)
PLANES(u16, uint16_t, 1, (double)number)
PLANES(i16, int16_t, 1, (double)number)
PLANES(u32, uint32_t, 1, (double)number)
PLANES(i32, int32_t, 1, (double)number)
PLANES(f32, float, isfinite(number), (double)number)
PLANES(f64, double, isfinite(number), number * p->unit)

static void (*const ranges[])(const plane *, double *, double *) = {
    range_u8, range_i8, range_u16, range_i16, range_u32, range_i32, range_f32, range_f64};
static void (*const draws[])(const plane *) = {draw_u8,  draw_i8,  draw_u16, draw_i16,
                                               draw_u32, draw_i32, draw_f32, draw_f64};

/* Bytes whose tile has their size need no averages. */
static void draw_bytes(const plane *p) {
    uint8_t levels[256];
    const int same = p->low == 0 && p->scale == 1;
    for (unsigned i = 0; i < 256; i++) {
        levels[i] = level(p, i);
    }
    for (uint32_t y = 0; y < p->h; y++) {
        const uint8_t *line = p->data + (int64_t)y * p->row;
        uint8_t *to = p->to + (uint64_t)y * p->w * p->to_step;
        if (same && p->col == 1 && p->to_step == 1) {
            memcpy(to, line, p->w);
            continue;
        }
        for (uint32_t x = 0; x < p->w; x++) {
            to[(uint64_t)x * p->to_step] = levels[line[(int64_t)x * p->col]];
        }
    }
}

/* Whether draw_sums can draw a plane of bytes: they lie side by side, and each of a line is read. */
static int has_sums(const plane *p, uint32_t from_w) {
    return p->col == 1 && from_w <= MOST_SUMS && from_w / p->w < 2 * MOST_SAMPLES - 1;
}

/* Bytes: sums of the columns over the lines of a pixel first, in vectors. */
static void draw_sums(const plane *p, uint32_t from_w) {
    uint16_t sums[MOST_SUMS]; /* of fewer than 2 * MOST_SAMPLES bytes each */
    for (uint32_t y = 0; y < p->h; y++) {
        const stretch lines = p->lines[y];
        uint8_t *to = p->to + (uint64_t)y * p->w * p->to_step;
        uint32_t nlines = 0;
        memset(sums, 0, from_w * sizeof *sums);
        for (uint32_t i = lines.begin; i < lines.end; i += lines.step) {
            const uint8_t *line = p->data + (int64_t)i * p->row;
            for (uint32_t k = 0; k < from_w; k++) {
                sums[k] = (uint16_t)(sums[k] + line[k]);
            }
            nlines++;
        }
        for (uint32_t x = 0; x < p->w; x++) {
            const stretch s = p->columns[x];
            uint32_t sum = 0;
            for (uint32_t k = s.begin; k < s.end; k++) {
                sum += sums[k];
            }
            to[(uint64_t)x * p->to_step] = level(p, (double)sum / (nlines * (s.end - s.begin)));
        }
    }
}

static uint32_t side(uint32_t n, uint32_t longer, uint32_t size) {
    if (longer <= size) {
        return n;
    }
    const uint32_t found = (uint32_t)(((uint64_t)n * size * 2 + longer) / (2 * (uint64_t)longer));
    return found ? found : 1;
}

static void draw_tile(const mapix_picture *from, const mapix_tiling *how, mapix_tile *tile,
                      uint8_t *out) {
    stretch lines[MOST_SIDE], columns[MOST_SIDE];
    stretches(lines, tile->h, from->h);
    stretches(columns, tile->w, from->w);
    plane planes[3];
    double low = DBL_MAX, high = -DBL_MAX;
    for (uint32_t k = 0; k < how->nchannels; k++) {
        const uint32_t wanted = how->nchannels == 3 ? (from->c < 3 ? 0 : k) : how->channel;
        const uint32_t channel = wanted < from->c ? wanted : from->c - 1;
        planes[k] = (plane){.data = (const uint8_t *)from->data + (int64_t)channel * from->channel,
                            .row = from->row, .col = from->col, .lines = lines, .columns = columns,
                            .h = tile->h, .w = tile->w, .to = out + k, .to_step = how->nchannels};
        if (how->own_range) {
            ranges[from->type](&planes[k], &low, &high);
        }
    }
    if (!how->own_range) {
        low = how->low;
        high = how->high;
    } else if (low > high) { /* no number is finite */
        low = high = 0;
    }
    tile->low = low;
    tile->high = high;
    /* sums of numbers beyond a small range may overflow: they are drawn as 0 and 255 all the same */
    const int huge = low < -HUGE_DOUBLE || high > HUGE_DOUBLE;
    const double unit = from->type == MAPIX_TILE_F64 && huge ? SMALL_UNIT : 1;
    low *= unit;
    high *= unit;
    const int exact = from->type == MAPIX_TILE_U8 && tile->h == from->h && tile->w == from->w;
    for (uint32_t k = 0; k < how->nchannels; k++) {
        planes[k].unit = unit;
        planes[k].low = low;
        planes[k].scale = high > low ? 255 / (high - low) : 1;
        if (exact) {
            draw_bytes(&planes[k]);
        } else if (from->type == MAPIX_TILE_U8 && has_sums(&planes[k], from->w)) {
            draw_sums(&planes[k], from->w);
        } else {
            draws[from->type](&planes[k]);
        }
    }
}

int mapix_tiles(const mapix_picture *pictures, uint64_t n, const mapix_tiling *how, uint8_t *out,
                uint64_t out_nbytes, mapix_tile *tiles) {
    uint64_t at = 0;
    if (!how || !how->size || how->size > MOST_SIDE || (how->nchannels != 1 && how->nchannels != 3) ||
        (n && (!pictures || !out || !tiles))) {
        return MAPIX_E_ARGUMENT;
    }
    for (uint64_t i = 0; i < n; i++) {
        const mapix_picture *from = &pictures[i];
        mapix_tile *tile = &tiles[i];
        *tile = (mapix_tile){.at = at};
        if (!from->data) {
            continue;
        }
        if (!from->h || !from->w || !from->c || from->type > MAPIX_TILE_F64) {
            return MAPIX_E_ARGUMENT;
        }
        const uint32_t longer = from->h > from->w ? from->h : from->w;
        tile->h = side(from->h, longer, how->size);
        tile->w = side(from->w, longer, how->size);
        const uint64_t nbytes = (uint64_t)tile->h * tile->w * how->nchannels;
        if (nbytes > out_nbytes - at) {
            return MAPIX_E_ARGUMENT;
        }
        draw_tile(from, how, tile, out + at);
        at += nbytes;
    }
    return MAPIX_OK;
}
