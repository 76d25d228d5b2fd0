/* fuzz_augment.c - images with random changes, and mixtures, against a slow reference.
 *
 * An input is: an order (type, layout, canvas, what changes), rows, a file.  Each pixel of the output must be
 * the one of the record that the definition in mapix.h names, or padding; and nothing outside of file and
 * output may be touched. */
#include "fuzz.h"

#include <math.h>

enum { ROOM = 24 << 10, MOST_ROWS = 12, MOST_CHANNELS = 8, MOST_PIXELS = 1 << 14, FRONT = 64 };

typedef struct {
    mapix_map map;
    mapix_table index;
    mapix_gather gather;
    mapix_augment augment;
    int64_t rows[MOST_ROWS], positions[MOST_ROWS];
    uint64_t nrows;
    float affine[2 * MOST_CHANNELS];
    uint64_t nlacking;
    slow_file slow;
} change_case;

static uint32_t a_side(input *in) {
    const unsigned code = take(in);
    return code < 200 ? code & 31 : code < 250 ? 60 + (code - 200) * 90 : code == 255 ? 65536 : 65530 + (code & 3);
}

static void take_order(change_case *t, input *in) {
    mapix_gather *g = &t->gather;
    mapix_augment *a = &t->augment;
    const unsigned kind = take(in), more = take(in);
    g->dtype = kind & 3; /* 3 is unknown */
    g->layout = kind >> 2 & 1;
    g->fit = kind >> 3 & 7;
    mapix_simd(more & 3);
    g->nthreads = (more & 0xf0) == 0xf0 ? 2 : 1; /* rarely: waking helpers takes long */
    g->c = take(in) & 7;
    g->pad_value = (float)(take(in) & 15);
    if (kind & 0x40) {
        g->h = a_side(in);
        g->w = a_side(in);
    }
    a->h = a_side(in);
    a->w = a_side(in);
    a->pad_h = a_side(in) & (more & 4 ? UINT32_MAX : 7);
    a->pad_w = a_side(in) & (more & 8 ? UINT32_MAX : 7);
    a->cut_h = kind & 0x80 ? a_side(in) : 0;
    a->cut_w = kind & 0x80 ? a_side(in) : 0;
    a->flip = take_n(in, 1) << 25; /* beyond always, too */
    a->flip_vertical = take_n(in, 1) << 25;
    a->key = take_n(in, 2);
    t->nlacking = (more & 0x0f) == 0x0f ? take(in) : 0;
    for (unsigned i = 0; i < 2 * MOST_CHANNELS; i++) {
        t->affine[i] = (float)(more & 0x10 ? i : i & 1) * 0.25f; /* of each channel, or of all */
    }
    g->affine = t->affine;
    g->augment = a;
    a->positions = t->positions;
    t->nrows = 1 + take(in) % MOST_ROWS;
    for (uint64_t i = 0; i < t->nrows; i++) {
        const uint64_t n = t->slow.nrecords ? t->slow.nrecords : 1;
        t->rows[i] = (int64_t)(take(in) % n);
        t->positions[i] = (int64_t)take_n(in, 2);
    }
    while (t->nrows > 1 && t->nrows * a->h * a->w * g->c > MOST_PIXELS) {
        t->nrows /= 2; /* the reference computes every pixel */
    }
}

/* --- the definition ---------------------------------------------------------------------------- */

static uint64_t slow_word(uint64_t key, uint64_t position, unsigned k) {
    uint64_t x = key + (4 * position + k + 1) * 11400714819323198485u;
    x ^= x >> 30;
    x *= 13787848793156543929u;
    x ^= x >> 27;
    x *= 10723151780598845931u;
    return x ^ x >> 31;
}

static int64_t slow_below(uint64_t word, unsigned half, uint64_t n) {
    const unsigned __int128 x = half ? word & 0xffffffffu : word >> 32;
    return (int64_t)((x * n) >> 32);
}

static int slow_usable(const change_case *t) {
    const mapix_gather *g = &t->gather;
    const mapix_augment *a = &t->augment;
    static const unsigned items[3] = {1, 4, 2};
    if (g->dtype > 2 || !a->h || !a->w || !g->c || a->h > 65535 || a->w > 65535 || a->pad_h > 65535 ||
        a->pad_w > 65535 || a->cut_h > 65535 || a->cut_w > 65535 || a->flip >> 32 > 1 ||
        (a->cut_h == 0) != (a->cut_w == 0) || (a->flip >> 32 && (a->flip & UINT32_MAX)) ||
        a->flip_vertical >> 32 > 1 || (a->flip_vertical >> 32 && (a->flip_vertical & UINT32_MAX)) ||
        (g->h == 0) != (g->w == 0) || g->h > 65535 || g->w > 65535) {
        return 0;
    }
    if (g->h && (g->h + 2 * (uint64_t)a->pad_h < a->h || g->w + 2 * (uint64_t)a->pad_w < a->w)) {
        return 0;
    }
    const unsigned __int128 need = (unsigned __int128)t->nrows * a->h * a->w * g->c * items[g->dtype];
    return need <= g->images_nbytes;
}

static int slow_fits(const change_case *t, const slow_record *r) {
    const mapix_gather *g = &t->gather;
    const mapix_augment *a = &t->augment;
    if (r->c > g->c || (r->c < g->c && !(g->fit & MAPIX_PAD))) {
        return 0;
    }
    if (!g->h) {
        return r->h + 2 * (uint64_t)a->pad_h >= a->h && r->w + 2 * (uint64_t)a->pad_w >= a->w;
    }
    if ((r->h > g->h || r->w > g->w) && !(g->fit & MAPIX_CROP)) {
        return 0;
    }
    return (r->h >= g->h && r->w >= g->w) || (g->fit & MAPIX_PAD);
}

/* The record's pixel on line y and column x of the canvas, or -1. */
static int on_canvas(const change_case *t, const slow_record *r, int64_t y, int64_t x, unsigned k) {
    const mapix_gather *g = &t->gather;
    const int64_t canvas_h = g->h ? g->h : r->h, canvas_w = g->w ? g->w : r->w;
    const int centre = (g->fit & MAPIX_CENTRE) != 0;
    if (y < 0 || x < 0 || y >= canvas_h || x >= canvas_w || k >= r->c) {
        return -1;
    }
    y += centre && r->h > canvas_h ? (r->h - canvas_h) / 2 : 0;
    x += centre && r->w > canvas_w ? (r->w - canvas_w) / 2 : 0;
    if (y >= r->h || x >= r->w) {
        return -1;
    }
    const uint64_t at = t->index.interleaved ? ((uint64_t)y * r->w + (uint64_t)x) * r->c + k
                                             : ((uint64_t)k * r->h + (uint64_t)y) * r->w + (uint64_t)x;
    return t->map.base[r->image_at + at];
}

static void check_image(const change_case *t, uint64_t i) {
    const mapix_gather *g = &t->gather;
    const mapix_augment *a = &t->augment;
    static const unsigned items[3] = {1, 4, 2};
    const slow_record *r = &t->slow.records[t->rows[i]];
    const uint64_t position = (uint64_t)t->positions[i];
    const uint64_t window = slow_word(a->key, position, 0), flips = slow_word(a->key, position, 1);
    const uint64_t cut = slow_word(a->key, position, 2);
    const uint64_t canvas_h = g->h ? g->h : r->h, canvas_w = g->w ? g->w : r->w;
    const int64_t top = slow_below(window, 0, canvas_h + 2 * (uint64_t)a->pad_h - a->h + 1) - a->pad_h;
    const int64_t left = slow_below(window, 1, canvas_w + 2 * (uint64_t)a->pad_w - a->w + 1) - a->pad_w;
    const int64_t cut_top = slow_below(cut, 0, a->h) - a->cut_h / 2, cut_left = slow_below(cut, 1, a->w) - a->cut_w / 2;
    const int flip = flips >> 32 < a->flip, vertical = (flips & UINT32_MAX) < a->flip_vertical;
    for (int64_t y = 0; y < a->h; y++) {
        for (int64_t x = 0; x < a->w; x++) {
            const int lost = y >= cut_top && y < cut_top + a->cut_h && x >= cut_left && x < cut_left + a->cut_w;
            for (unsigned k = 0; k < g->c; k++) {
                const int64_t from_y = top + (vertical ? a->h - 1 - y : y);
                const int64_t from_x = left + (flip ? a->w - 1 - x : x);
                const int pixel = lost ? -1 : on_canvas(t, r, from_y, from_x, k);
                const uint64_t to = g->layout == MAPIX_NHWC
                                        ? ((uint64_t)y * a->w + (uint64_t)x) * g->c + k
                                        : ((uint64_t)k * a->h + (uint64_t)y) * a->w + (uint64_t)x;
                const uint8_t *image = g->images + i * a->h * a->w * g->c * items[g->dtype];
                float want = pixel < 0 ? g->pad_value
                                       : fmaf((float)pixel, t->affine[2 * k], t->affine[2 * k + 1]);
                if (g->dtype == MAPIX_U8) {
                    CHECK(image[to] == (pixel < 0 ? (unsigned)g->pad_value : (unsigned)pixel));
                } else if (g->dtype == MAPIX_F32) {
                    CHECK(memcmp(image + 4 * to, &want, 4) == 0);
                } else { /* multiples of 1/4 below 2048 or 1 below 8192 are exact; others are near */
                    uint16_t half;
                    memcpy(&half, image + 2 * to, 2);
                    const float got = half & 0x7c00 ? ldexpf((float)(1024 + (half & 1023)), (half >> 10 & 31) - 25)
                                                    : ldexpf((float)(half & 1023), -24);
                    CHECK(!(half >> 15) && fabsf(got - want) <= want / 2048);
                }
            }
        }
    }
}

static void check_changes(change_case *t) {
    mapix_gather *g = &t->gather;
    const mapix_augment *a = &t->augment;
    static const unsigned items[4] = {1, 4, 2, 1};
    const uint64_t pixels = t->nrows * a->h * a->w * g->c;
    uint64_t need = pixels <= 16 * MOST_PIXELS ? pixels * items[g->dtype] : 64;
    need -= t->nlacking < need ? t->nlacking : need;
    g->images = block(need);
    g->images_nbytes = need;
    mapix_where where = {0};
    const int status = mapix_table_gather(&t->map, &t->index, t->rows, t->nrows, g, &where);
    if (!slow_usable(t) || !t->slow.nrecords) {
        CHECK(status == MAPIX_E_ARGUMENT || (!t->slow.nrecords && status == MAPIX_E_ROW));
        free(g->images);
        return;
    }
    uint64_t bad = 0;
    while (bad < t->nrows && slow_fits(t, &t->slow.records[t->rows[bad]])) {
        bad++;
    }
    if (bad == t->nrows) {
        CHECK(status == MAPIX_OK);
        for (uint64_t i = 0; i < t->nrows; i++) {
            check_image(t, i);
        }
    } else {
        const slow_record *r = &t->slow.records[t->rows[bad]];
        CHECK(status == MAPIX_E_SHAPE && where.record == (uint64_t)t->rows[bad] && where.at == r->at);
        CHECK(where.expected == ((uint64_t)a->h << 32 | (uint64_t)a->w << 16 | g->c));
        CHECK(where.got == ((uint64_t)r->h << 32 | (uint64_t)r->w << 16 | r->c));
    }
    free(g->images);
}

/* --- mixtures ---------------------------------------------------------------------------------- */

static void check_mixture(input *in) {
    mapix_simd(take(in) & 3);
    const uint64_t n = take(in) & 15, size = take(in);
    float *images = block(n * size * sizeof *images), *before = block(n * size * sizeof *images);
    float *shares = block(n * sizeof *shares);
    for (uint64_t i = 0; i < n * size; i++) {
        images[i] = before[i] = (float)(int8_t)take(in) / 7.0f;
    }
    for (uint64_t i = 0; i < n; i++) {
        shares[i] = (float)take(in) / 256.0f;
    }
    CHECK(mapix_mix(images, n, size, shares) == MAPIX_OK);
    for (uint64_t i = 0; i < n * size; i++) {
        const uint64_t image = i / size, other = n - 1 - image;
        volatile float own = before[i] * shares[image];
        volatile float rest = before[other * size + i % size] * (1.0f - shares[image]);
        const float want = image == other ? before[i] : own + rest;
        CHECK(images[i] == want);
    }
    CHECK(mapix_mix(NULL, 1, 1, shares) == MAPIX_E_ARGUMENT);
    CHECK(mapix_mix(NULL, 0, 1, NULL) == MAPIX_OK);
    free(images);
    free(before);
    free(shares);
}

/* What excludes random changes is reported. */
static void check_mistakes(void) {
    static const uint8_t file[8] = {1, 0, 1, 0, 1, 0, 0, 77};
    static uint8_t pixel[1];
    static const uint64_t flat_at[2] = {0, 1};
    const mapix_map map = {.base = file, .nbytes = sizeof file, .fd = -1};
    const mapix_table index = {.nrecords = 1, .stride = 8, .head_nbytes = 6, .first = {0, 1, 1, 1, 0}};
    const int64_t zero = 0;
    const mapix_augment good = {.positions = &zero, .h = 1, .w = 1};
    mapix_augment lost = good;
    lost.positions = NULL;
    mapix_augment high = good, wide = good;
    high.pad_h = wide.pad_w = UINT32_MAX;
    float image[2] = {0, 0};
    const float shares[2] = {0, 0};
    CHECK(mapix_mix(NULL, 2, 1, shares) == MAPIX_E_ARGUMENT && mapix_mix(image, 2, 1, NULL) == MAPIX_E_ARGUMENT);
    mapix_gather g[7];
    for (int k = 0; k < 7; k++) {
        g[k] = (mapix_gather){.images = pixel, .images_nbytes = 1, .c = 1, .augment = &good};
    }
    g[1].augment = &lost;
    g[2].images = NULL;
    g[3].flat_at = flat_at;
    g[4].swap = 1;
    g[5].augment = &high;
    g[6].augment = &wide;
    mapix_where where;
    for (int k = 0; k < 7; k++) {
        CHECK(mapix_table_gather(&map, &index, &zero, 1, &g[k], &where) == (k ? MAPIX_E_ARGUMENT : MAPIX_OK));
    }
    CHECK(pixel[0] == 77);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    static uint8_t room[ROOM];
    input in = {data, nbytes};
    const unsigned flags = take(&in);
    if (flags == 0xff) {
        check_mixture(&in);
        check_mistakes();
        return 0;
    }
    input file_part = {data, nbytes};
    const size_t front = nbytes < FRONT ? nbytes : FRONT;
    file_part.next += front;
    file_part.left -= front;
    in.left = front ? front - 1 : 0;
    change_case t;
    memset(&t, 0, sizeof t);
    const unsigned head = flags & 1 ? 14 : 6;
    draft d = {.bytes = room, .room = sizeof room, .head_nbytes = head};
    draft_file(&d, &file_part, 0);
    uint8_t *file = block(d.nbytes);
    memcpy(file, room, d.nbytes);
    t.slow = slow_walk(file, d.nbytes, head);
    t.map = (mapix_map){.base = file, .nbytes = d.nbytes, .fd = -1};
    mapix_entry *entries = block(t.slow.nrecords * sizeof *entries);
    for (uint64_t i = 0; i < t.slow.nrecords; i++) {
        const slow_record *r = &t.slow.records[i];
        entries[i] = (mapix_entry){r->at | (uint64_t)r->n << 56, (uint16_t)r->h, (uint16_t)r->w, (uint16_t)r->c, 0};
    }
    t.index = (mapix_table){.nrecords = t.slow.nrecords, .entries = entries, .head_nbytes = head,
                            .interleaved = flags >> 1 & 1};
    take_order(&t, &in);
    check_changes(&t);
    free(t.slow.records);
    free(entries);
    free(file);
    return 0;
}
