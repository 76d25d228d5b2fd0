/* resize.c - pictures of bytes in another size: as Pillow does it, and cast on the way. */
#include "lines.h"
#include "simd.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

/* Weights are counted in 2^-22, so that a sum of bytes, each times its weight, fits 32 bits.  Kernels multiply them as
 * two numbers of 16 bits: weight = high * 2^11 + low. */
enum { WEIGHT_BITS = 22, LOW_BITS = 11, HALF = 1 << (WEIGHT_BITS - 1), MOST_SIDE = 65535 };
enum { TAPS = 4, STEP_NBYTES = 3 * TAPS, SPARE_NBYTES = 32 }; /* pixels that a kernel takes at once */
enum { LINES = 4 };                                              /* of the picture that it takes at once */

/* One direction.  Pixel x of the output is the sum of count[x] pixels of the picture from first[x] on, each times
 * its weight, from weights[x * most] on. */
typedef struct {
    uint32_t n;         /* pixels of the output */
    uint32_t most;      /* of count */
    uint32_t identical; /* the output is the picture */
    uint32_t steps;     /* four weights each, of any pixel: kernels take the same for all */
    uint32_t nfast;     /* pixels whose steps read nothing beyond the line */
    uint64_t reach;     /* bytes from the begin of a line that steps of no pixel read beyond */
    int32_t *first, *count, *weights;
    int16_t *pairs; /* of four weights each: the high parts, then the low parts */
} axis;

/* --- weights --------------------------------------------------------------------------------------- */

static double sinc(double x) {
    return x == 0.0 ? 1.0 : sin(x * PI) / (x * PI);
}

static double weight_of(uint32_t filter, double x) {
    const double distance = fabs(x);
    switch (filter) {
    case MAPIX_BOX: return x > -0.5 && x <= 0.5;
    case MAPIX_BILINEAR: return distance < 1.0 ? 1.0 - distance : 0.0;
    case MAPIX_HAMMING: /* Pillow's constants are floats */
        return distance < 1.0 ? sinc(distance) * (0.54f + 0.46f * cos(distance * PI)) : 0.0;
    case MAPIX_BICUBIC:
        if (distance < 1.0) {
            return (1.5 * distance - 2.5) * distance * distance + 1.0;
        }
        return distance < 2.0 ? (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5 : 0.0;
    default: return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
    }
}

static double reach_of(uint32_t filter) {
    static const double reach[] = {0.5, 1.0, 1.0, 2.0, 3.0};
    return reach[filter];
}

/* Input pixels per output pixel: a float, because Pillow subtracts floats. */
static double scale_of(float low, float high, uint32_t n) {
    return (double)(high - low) / n;
}

static double reach_at(uint32_t filter, double scale) {
    return reach_of(filter) * (scale > 1.0 ? scale : 1.0);
}

static uint32_t most_of(uint32_t filter, float low, float high, uint32_t n, uint32_t from) {
    const uint32_t most = 2 * (uint32_t)ceil(reach_at(filter, scale_of(low, high, n))) + 1;
    return most < from ? most : from;
}

static void weigh(axis *a, uint32_t filter, float low, float high, uint32_t from, double *spare) {
    const double scale = scale_of(low, high, a->n), reach = reach_at(filter, scale);
    const double step = 1.0 / (scale > 1.0 ? scale : 1.0);
    for (uint32_t x = 0; x < a->n; x++) {
        const double centre = (double)low + (x + 0.5) * scale;
        const double begin = centre - reach + 0.5, end = centre + reach + 0.5;
        const uint32_t first = begin > 0.0 ? (uint32_t)begin : 0;
        const uint32_t last = end < from ? (uint32_t)end : from;
        const uint32_t found = last > first ? last - first : 0, count = found < a->most ? found : a->most;
        int32_t *weights = a->weights + (uint64_t)x * a->most;
        double sum = 0.0;
        for (uint32_t k = 0; k < count; k++) {
            spare[k] = weight_of(filter, (k + first - centre + 0.5) * step);
            sum += spare[k];
        }
        for (uint32_t k = 0; k < count; k++) {
            const double part = (sum != 0.0 ? spare[k] / sum : spare[k]) * (1 << WEIGHT_BITS);
            weights[k] = (int32_t)(part < 0.0 ? part - 0.5 : part + 0.5);
        }
        a->first[x] = (int32_t)first;
        a->count[x] = (int32_t)count;
    }
}

/* Weights as kernels take them. */
static void pair(axis *a, uint64_t line_nbytes) {
    int32_t most = 0;
    for (uint32_t x = 0; x < a->n; x++) {
        most = a->count[x] > most ? a->count[x] : most;
    }
    a->steps = ((uint32_t)most + TAPS - 1) / TAPS;
    a->reach = line_nbytes + STEP_NBYTES * a->steps + 4;
    for (uint32_t x = 0; x < a->n; x++) {
        const int32_t *weights = a->weights + (uint64_t)x * a->most;
        int16_t *pairs = a->pairs + (uint64_t)x * a->steps * 2 * TAPS;
        for (uint32_t k = 0; k < a->steps * TAPS; k++) {
            const int32_t weight = (int32_t)k < a->count[x] ? weights[k] : 0;
            int16_t *to = pairs + k / TAPS * 2 * TAPS + k % TAPS;
            to[0] = (int16_t)(weight >> LOW_BITS);
            to[TAPS] = (int16_t)(weight & ((1 << LOW_BITS) - 1));
        }
        if (3 * (uint64_t)a->first[x] + STEP_NBYTES * a->steps + 4 <= line_nbytes) {
            a->nfast = x + 1;
        }
    }
}

/* --- memory ---------------------------------------------------------------------------------------- */

typedef struct {
    axis across, down;
    double *spare;        /* weights of one pixel */
    const uint8_t **rows; /* lines that become one line */
    uint8_t *ring;        /* across first: the last lines, scaled across */
    uint8_t *wide;        /* down first: a line, scaled down */
    uint8_t *line;        /* a line of the output, as bytes */
    uint64_t line_nbytes;
    int across_first;
    int one_line; /* lines lie as the kernels write them, and all channels are cast alike */
} workshop;

static uint64_t rounded(uint64_t nbytes) {
    return (nbytes + 31) / 32 * 32;
}

static int usable(const mapix_resizing *r) {
    const float *box = r->box;
    const uint32_t sides[4] = {r->h, r->w, r->to_h, r->to_w};
    for (int k = 0; k < 4; k++) {
        if (sides[k] < 1 || sides[k] > MOST_SIDE) {
            return 0;
        }
    }
    if (r->c < 1 || r->c > 4 || r->filter > MAPIX_LANCZOS || r->dtype > MAPIX_F16 || !r->pixels || !r->to) {
        return 0;
    }
    /* false for NaN, too */
    return box[0] >= 0 && box[0] < box[2] && box[2] <= (float)r->w && box[1] >= 0 && box[1] < box[3] &&
           box[3] <= (float)r->h;
}

/* The order that Pillow 13 takes; each direction rounds to bytes, so the results differ.  It counts pixels of the
 * picture, not of the box. */
static int down_comes_first(const mapix_resizing *r) {
    return r->to_h < r->h && (int64_t)r->h - r->to_h > 2 * ((int64_t)r->w - r->to_w);
}

/* Whether lines lie as the kernels write them, and all channels are cast alike. */
static int is_one_line(const mapix_resizing *r) {
    int alike = r->to_channel == 1 && r->to_col == r->c;
    for (uint32_t k = 1; alike && r->affine && k < r->c; k++) {
        alike = memcmp(r->affine, r->affine + 2 * k, 2 * sizeof *r->affine) == 0;
    }
    return alike;
}

/* Lay out the scratch memory; returns its size. */
static uint64_t plan(const mapix_resizing *r, workshop *s, uint8_t *scratch) {
    uint64_t used = 0;
    memset(s, 0, sizeof *s);
    s->across.n = r->to_w;
    s->down.n = r->to_h;
    s->across.identical = r->box[0] <= 0 && r->box[2] >= (float)r->to_w && r->w == r->to_w;
    s->down.identical = r->box[1] <= 0 && r->box[3] >= (float)r->to_h && r->h == r->to_h;
    s->across.most = s->across.identical ? 0 : most_of(r->filter, r->box[0], r->box[2], r->to_w, r->w);
    s->down.most = s->down.identical ? 0 : most_of(r->filter, r->box[1], r->box[3], r->to_h, r->h);
    s->across_first = !s->across.identical && !s->down.identical && !down_comes_first(r);
    s->one_line = is_one_line(r);
    s->line_nbytes = rounded((uint64_t)r->to_w * r->c + SPARE_NBYTES);
    const uint32_t most = s->across.most > s->down.most ? s->across.most : s->down.most;
#define ROOM(pointer, count)                                                             \
    do {                                                                                 \
        pointer = scratch ? (void *)(scratch + used) : NULL;                             \
        used += rounded((uint64_t)(count) * sizeof *(pointer));                          \
    } while (0)
    ROOM(s->spare, most);
    ROOM(s->rows, s->down.most);
    axis *axes[2] = {&s->across, &s->down};
    for (int k = 0; k < 2; k++) {
        axis *a = axes[k];
        ROOM(a->first, a->identical ? 0 : a->n);
        ROOM(a->count, a->identical ? 0 : a->n);
        ROOM(a->weights, (uint64_t)a->n * a->most);
    }
    ROOM(s->across.pairs, r->c == 3 ? (uint64_t)r->to_w * ((s->across.most + TAPS - 1) / TAPS) * 2 * TAPS : 0);
    ROOM(s->ring, s->across_first ? s->line_nbytes * (s->down.most + LINES - 1) : 0);
    ROOM(s->wide, s->down.identical || s->across_first ? 0 : (uint64_t)r->w * r->c);
    ROOM(s->line, s->line_nbytes);
#undef ROOM
    return used;
}

/* --- a line of the output -------------------------------------------------------------------------- */

static uint8_t clipped(uint32_t sum) {
    const int32_t value = (int32_t)sum >> WEIGHT_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Bytes of the picture from line y on. */
static uint64_t bytes_from(const mapix_resizing *r, uint32_t y) {
    return (r->h - 1 - y) * r->row + (uint64_t)r->w * r->c;
}

/* Where line y of the output is, if it is bytes that lie as the kernels write them. */
static uint8_t *in_place(const mapix_resizing *r, uint32_t y) {
    if (r->dtype != MAPIX_U8 || r->to_channel != 1 || r->to_col != r->c) {
        return NULL;
    }
    return (uint8_t *)r->to + y * r->to_row;
}

/* Cast line y. */
static void emit(const mapix_resizing *r, const workshop *s, const mapix_kernels *kernels, const uint8_t *line,
                 uint32_t y) {
    uint8_t *to = (uint8_t *)r->to + y * r->to_row * item_nbytes(r->dtype);
    if (s->one_line) {
        const float a = r->affine ? r->affine[0] : 1.0f, b = r->affine ? r->affine[1] : 0.0f;
        kernels->line[r->dtype](to, 1, line, 1, (uint64_t)r->to_w * r->c, a, b);
        return;
    }
    for (uint32_t k = 0; k < r->c; k++) {
        const float a = r->affine ? r->affine[2 * k] : 1.0f, b = r->affine ? r->affine[2 * k + 1] : 0.0f;
        uint8_t *channel = to + k * r->to_channel * item_nbytes(r->dtype);
        kernels->line[r->dtype](channel, r->to_col, line + k, r->c, r->to_w, a, b);
    }
}

#define BODY "resize_body.h"
#include "each_level.h"

uint64_t mapix_resize_scratch(const mapix_resizing *r) {
    workshop s;
    return usable(r) ? plan(r, &s, NULL) : 0;
}

int mapix_resize(const mapix_resizing *r, void *scratch, uint64_t nscratch) {
    workshop s;
    if (!usable(r) || plan(r, &s, scratch) > nscratch) {
        return MAPIX_E_ARGUMENT;
    }
    if (!s.across.identical) {
        weigh(&s.across, r->filter, r->box[0], r->box[2], r->w, s.spare);
        if (r->c == 3) {
            pair(&s.across, 3 * (uint64_t)r->w);
        }
    }
    if (!s.down.identical) {
        weigh(&s.down, r->filter, r->box[1], r->box[3], r->h, s.spare);
    }
    MAPIX_AT_LEVEL(resize)(r, &s);
    return MAPIX_OK;
}
