/* fuzz_resize.c - pictures in another size, beside the definition.
 *
 * In one direction each byte is compared with the sum over all pixels of its line, in doubles.  In both
 * directions the result is that of two calls, one for each direction.  A cast result is compared with the bytes. */
#include "fuzz.h"

#include <math.h>

enum { MOST_C = 4, MOST_SIDE = 80, UNTOUCHED = 0xa5 };

typedef struct {
    uint8_t *bytes;
    mapix_resizing r;
    uint32_t level;
} order;

static uint32_t a_side(input *in) {
    const unsigned code = take(in);
    return code < 200 ? code % 24 + 1 : code - 175; /* at most MOST_SIDE */
}

/* Two places of a side, in order. */
static void a_stretch(input *in, uint32_t side, float *low, float *high) {
    const unsigned kind = take(in);
    const double a = take_n(in, 2) / 65536.0 * side, b = take_n(in, 2) / 65536.0 * side;
    *low = (float)(kind & 1 ? 0 : kind & 2 ? floor(fmin(a, b)) : fmin(a, b));
    *high = (float)(kind & 1 ? side : kind & 2 ? ceil(fmax(a, b)) : fmax(a, b));
}

static order an_order(input *in) {
    order o = {0};
    mapix_resizing *r = &o.r;
    const unsigned kind = take(in), more = take(in);
    o.level = kind % 3;
    r->filter = kind / 3 % 5;
    r->c = 1 + more % MOST_C;
    r->dtype = more >> 2 & 3; /* 3 is unknown */
    r->h = a_side(in);
    r->w = a_side(in);
    r->to_h = more & 16 ? r->h : a_side(in);
    r->to_w = more & 32 ? r->w : a_side(in);
    a_stretch(in, r->w, &r->box[0], &r->box[2]);
    a_stretch(in, r->h, &r->box[1], &r->box[3]);
    const unsigned gap = more & 64 ? take(in) : 0, seed = take(in);
    r->row = (uint64_t)r->w * r->c + gap;
    const uint64_t nbytes = r->row * (r->h - 1) + (uint64_t)r->w * r->c; /* nothing after the last pixel */
    o.bytes = block(nbytes);
    for (uint64_t i = 0; i < nbytes; i++) {
        o.bytes[i] = more & 128 ? (uint8_t)(i * 2654435761u >> 11 ^ seed) : in->left ? take(in) : (uint8_t)seed;
    }
    r->pixels = o.bytes;
    return o;
}

static int is_usable(const mapix_resizing *r) {
    return r->box[2] > r->box[0] && r->box[3] > r->box[1] && r->dtype != 3;
}

static int run(const mapix_resizing *r) {
    const uint64_t nscratch = mapix_resize_scratch(r);
    uint8_t *scratch = block(nscratch);
    if (nscratch) {
        CHECK(mapix_resize(r, scratch, nscratch - 1) == MAPIX_E_ARGUMENT);
    }
    const int status = mapix_resize(r, scratch, nscratch);
    CHECK((status == MAPIX_OK) == (nscratch > 0));
    free(scratch);
    return status;
}

/* The same as bytes, line after line. */
static uint8_t *as_bytes(const mapix_resizing *r, uint32_t to_h, uint32_t to_w) {
    mapix_resizing plain = *r;
    plain.to_h = to_h;
    plain.to_w = to_w;
    plain.dtype = MAPIX_U8;
    plain.to_channel = 1;
    plain.to_col = r->c;
    plain.to_row = (uint64_t)to_w * r->c;
    uint8_t *to = block((uint64_t)to_h * to_w * r->c);
    plain.to = to;
    CHECK(run(&plain) == MAPIX_OK);
    return to;
}

static double slow_sinc(double x) {
    const double pi = 3.14159265358979323846;
    return x == 0 ? 1 : sin(pi * x) / (pi * x);
}

static double slow_weight(uint32_t filter, double x) {
    const double pi = 3.14159265358979323846, d = fabs(x);
    switch (filter) {
    case MAPIX_BOX: return d <= .5;
    case MAPIX_BILINEAR: return fmax(0, 1 - d);
    case MAPIX_HAMMING: return d < 1 ? slow_sinc(x) * (.54 + .46 * cos(pi * x)) : 0;
    case MAPIX_BICUBIC: /* Keys, a = -1/2 */
        return d < 1 ? 1.5 * d * d * d - 2.5 * d * d + 1 : d < 2 ? -.5 * d * d * d + 2.5 * d * d - 4 * d + 2 : 0;
    default: return d < 3 ? slow_sinc(x) * slow_sinc(x / 3) : 0;
    }
}

/* The weights of the n pixels of a line for pixel x of the to_n that it becomes; their sum, or NaN where the edge of
 * a box is a matter of rounding. */
static double slow_weights(const mapix_resizing *r, uint32_t n, float low, float high, uint32_t to_n, uint32_t x,
                           double *weights) {
    const double scale = (double)(high - low) / to_n, wide = fmax(1, scale);
    const double centre = (double)low + (x + .5) * scale;
    double all = 0;
    for (uint32_t k = 0; k < n; k++) {
        const double at = (k + .5 - centre) / wide;
        if (r->filter == MAPIX_BOX && fabs(fabs(at) - .5) < 1e-9) {
            return (double)NAN;
        }
        weights[k] = slow_weight(r->filter, at);
        all += weights[k];
    }
    return all > 0 ? all : (double)NAN;
}

/* A byte beside the weighted mean of n pixels that are `step` bytes apart. */
static void check_byte(const uint8_t *line, uint64_t step, uint32_t n, const double *weights, double all,
                       uint8_t byte) {
    double sum = 0;
    for (uint32_t k = 0; k < n; k++) {
        sum += weights[k] * line[k * step];
    }
    const double want = sum / all, inside = want < 0 ? 0 : want > 255 ? 255 : want;
    CHECK(fabs(byte - inside) <= .5 + 255.0 * n / (1 << 23) + 1e-5);
}

/* Each byte of a result in one direction, or in none. */
static void check_direction(const mapix_resizing *r, const uint8_t *pixels, uint64_t row, uint32_t h, uint32_t w,
                            const uint8_t *to, uint32_t to_h, uint32_t to_w, int across, int down) {
    const uint32_t n = across ? w : h, to_n = across ? to_w : to_h, nlines = across ? to_h : to_w;
    const float low = r->box[across ? 0 : 1], high = r->box[across ? 2 : 3];
    double weights[MOST_SIDE];
    for (uint32_t i = 0; (across || down) && i < to_n; i++) {
        const double all = slow_weights(r, n, low, high, to_n, i, weights);
        for (uint32_t line = 0; !isnan(all) && line < nlines; line++) {
            const uint64_t pixel = across ? (uint64_t)line * to_w + i : (uint64_t)i * to_w + line;
            for (uint32_t k = 0; k < r->c; k++) {
                const uint8_t *from = pixels + (across ? line * row : (uint64_t)line * r->c) + k;
                check_byte(from, across ? r->c : row, n, weights, all, to[pixel * r->c + k]);
            }
        }
    }
    for (uint32_t y = 0; !across && !down && y < to_h; y++) {
        CHECK(!memcmp(to + (uint64_t)y * to_w * r->c, pixels + y * row, (uint64_t)w * r->c));
    }
}

static void check_bytes(const mapix_resizing *r) {
    const int across = r->w != r->to_w || r->box[0] > 0 || r->box[2] < (float)r->w;
    const int down = r->h != r->to_h || r->box[1] > 0 || r->box[3] < (float)r->h;
    uint8_t *got = as_bytes(r, r->to_h, r->to_w);
    if (!across || !down) {
        check_direction(r, r->pixels, r->row, r->h, r->w, got, r->to_h, r->to_w, across, down);
        free(got);
        return;
    }
    const int down_first = r->h > r->to_h && (int)r->h - (int)r->to_h > 2 * ((int)r->w - (int)r->to_w);
    mapix_resizing one = *r, two = *r;
    const uint32_t middle_h = down_first ? r->to_h : r->h, middle_w = down_first ? r->w : r->to_w;
    one.box[down_first ? 0 : 1] = 0;
    one.box[down_first ? 2 : 3] = (float)(down_first ? r->w : r->h);
    uint8_t *middle = as_bytes(&one, middle_h, middle_w);
    check_direction(&one, r->pixels, r->row, r->h, r->w, middle, middle_h, middle_w, !down_first, down_first);
    two.pixels = middle;
    two.h = middle_h;
    two.w = middle_w;
    two.row = (uint64_t)middle_w * r->c;
    two.box[down_first ? 1 : 0] = 0;
    two.box[down_first ? 3 : 2] = (float)(down_first ? middle_h : middle_w);
    uint8_t *want = as_bytes(&two, r->to_h, r->to_w);
    CHECK(!memcmp(got, want, (uint64_t)r->to_h * r->to_w * r->c));
    free(want);
    free(middle);
    free(got);
}

/* The result as any type, at any steps: the numbers of the bytes, and nothing else touched. */
static void check_cast(mapix_resizing *r, input *in) {
    const unsigned kind = take(in);
    const uint64_t item = r->dtype == MAPIX_U8 ? 1 : r->dtype == MAPIX_F32 ? 4 : 2;
    const float affine[8] = {.5f, -3, 1 / 255.0f, 0, -2, 1e4f, (float)take(in), 7};
    const uint64_t gap = kind >> 2 & 3, channels = r->c + gap; /* numbers of each pixel, or planes, of the canvas */
    const int planar = kind & 1;
    r->affine = kind & 2 ? affine : NULL;
    r->to_channel = planar ? (uint64_t)r->to_h * r->to_w : 1;
    r->to_col = planar ? 1 : channels;
    r->to_row = r->to_w * r->to_col;
    const uint64_t count = channels * r->to_h * r->to_w;
    uint8_t *canvas = block(count * item), *bytes = as_bytes(r, r->to_h, r->to_w);
    memset(canvas, UNTOUCHED, count * item);
    r->to = canvas;
    CHECK(run(r) == MAPIX_OK);
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t k = planar ? i / ((uint64_t)r->to_h * r->to_w) : i % channels;
        const uint64_t pixel = planar ? i % ((uint64_t)r->to_h * r->to_w) : i / channels;
        if (k >= r->c) {
            for (uint64_t b = 0; b < item; b++) {
                CHECK(canvas[i * item + b] == UNTOUCHED);
            }
            continue;
        }
        const uint8_t byte = bytes[pixel * r->c + k];
        float number = byte;
        if (r->dtype == MAPIX_U8) {
            CHECK(canvas[i] == byte);
            continue;
        }
        if (r->affine) {
            number = (float)((double)byte * affine[2 * k] + affine[2 * k + 1]); /* 24 + 8 bits: exact but for the sum */
        }
        if (r->dtype == MAPIX_F32) {
            float got;
            memcpy(&got, canvas + 4 * i, 4);
            CHECK(fabsf(got - number) <= fabsf(number) * 0x1p-23f);
        } else {
            uint16_t got;
            memcpy(&got, canvas + 2 * i, 2);
            const int exponent = got >> 10 & 31, digits = (got & 1023) + (exponent ? 1024 : 0);
            const double half = ldexp(digits, (exponent ? exponent : 1) - 25);
            CHECK(fabs((got >> 15 ? -half : half) - (double)number) <= fabs((double)number) * 0x1p-11 + 0x1p-25);
        }
    }
    free(bytes);
    free(canvas);
}

static void check_wrong(const mapix_resizing *good) {
    uint64_t room[8];
    for (int k = 0; k < 14; k++) {
        mapix_resizing r = *good;
        uint8_t to[4];
        r.to = to;
        switch (k) {
        case 0: r.h = 0; break;
        case 1: r.w = 65536; break;
        case 2: r.to_h = 0; break;
        case 3: r.to_w = 65536; break;
        case 4: r.c = 0; break;
        case 5: r.c = 5; break;
        case 6: r.filter = 5; break;
        case 7: r.box[0] = -1; break;
        case 8: r.box[3] = (float)r.h + 1; break;
        case 9: r.box[2] = r.box[0]; break;
        case 10: r.box[1] = NAN; break;
        case 11: r.box[2] = INFINITY; break;
        case 12: r.pixels = NULL; break;
        default: r.to = NULL; break;
        }
        CHECK(mapix_resize_scratch(&r) == 0 && mapix_resize(&r, room, sizeof room) == MAPIX_E_ARGUMENT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    input in = {data, nbytes};
    order o = an_order(&in);
    mapix_simd((int)o.level);
    if (is_usable(&o.r)) {
        check_bytes(&o.r);
        check_cast(&o.r, &in);
        check_wrong(&o.r);
    } else {
        uint8_t to = 0;
        o.r.to = &to;
        CHECK(mapix_resize_scratch(&o.r) == 0);
    }
    free(o.bytes);
    return 0;
}
