/* fuzz_gather.c - the gather against a slow reference, with correct indexes and with ones that
 * lie; of one file, and of several.
 *
 * An input is: an order for a gather (type, layout, canvas, what is wanted), an index, rows, a
 * file.  Whatever the index says, the gather must stay inside the file and its buffers, give the
 * error that the slow reference gives, and otherwise the reference's pixels, labels, shapes and ranges. */
#define _GNU_SOURCE
#include "../tests/c/residence.h"
#include "fuzz.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROOM = 24 << 10, MOST_ROWS = 48, MOST_COLUMNS = 6, MOST_CHANNELS = 8, MOST_PIXELS = 1 << 15,
       MOST_PARTS = 8 };

typedef struct gather_case {
    mapix_map map;
    const uint8_t *file; /* the same bytes, where they cannot vanish */
    uint64_t kept;       /* bytes that did not vanish */
    mapix_table index;
    int64_t *rows;
    uint64_t nrows;
    mapix_gather gather;
    float affine[2 * MOST_CHANNELS];
    int16_t columns[256];
    uint64_t nlacking; /* bytes that the images block is too small */
    int own_canvas;   /* the canvas is the size of a record */
    unsigned flat_lie_at; /* one of the offsets of flat output is changed by flat_lie */
    uint64_t flat_lie;
    const struct gather_case *parts; /* of several files: row i is in part which[i], and its number there is */
    const uint32_t *which;           /* rows[i] of that part; or null */
    uint64_t failed;
} gather_case;

static const gather_case *part_of_row(const gather_case *t, uint64_t i) {
    return t->parts ? &t->parts[t->which[i]] : t;
}

/* --- the case that an input describes ---------------------------------------------------------*/

static float a_float(unsigned code) {
    static const float values[16] = {0.0f,  1.0f,   -1.0f, 1.0f / 255, 300.0f,   -0.0f, 0.5f,  3e38f,
                                     1e-7f, 65504.f, 6e-8f, 255.0f,     INFINITY, NAN,   -77.5f, 2.0f};
    return values[code & 15];
}

static void take_order(gather_case *t, input *in) {
    mapix_gather *g = &t->gather;
    const unsigned kind = take(in), want = take(in), size = take(in);
    g->dtype = kind & 3; /* 3 is unknown */
    g->layout = kind >> 2 & 1;
    g->fit = kind >> 3 & 7;
    g->layout += (kind & 0xc0) == 0xc0; /* 2 is unknown */
    g->h = (take(in) & 31) + ((kind & 0xc0) == 0x80 ? 65530 : 0); /* too high, near the limit */
    g->w = take(in);
    g->c = take(in) & 7;
    g->pad_value = a_float(take(in));
    g->ncolumns = take(in) % (MOST_COLUMNS + 1);
    g->probe = (size & 3) == 3 ? MAPIX_PROBE_NONE : size & 3;
    mapix_simd(size >> 2 & 3);
    t->own_canvas = size >> 4 & 1;
    mapix_stream(size & 32 ? 1 : 1 << 25);
    const uint64_t threads = take_n(in, 2); /* rarely more than one: waking helpers takes long */
    g->nthreads = threads == 0xa2a2 ? 2 : threads == 0xa3a3 ? 3 : threads == 0xa9a9 ? 20 : 0;
    for (unsigned i = 0; i < 2 * MOST_CHANNELS; i++) {
        t->affine[i] = i < 6 ? a_float(take(in)) : (float)i;
    }
    const unsigned turn = take(in);
    residence = turn; /* which pages are on the disk */
    residence_ncalls = 0;
    for (unsigned i = 0; i < 256; i++) {
        t->columns[i] = (int16_t)((int)(i * 5 + turn) % 9 - 1); /* some beyond ncolumns */
    }
    g->affine = want & 1 ? NULL : t->affine;
    g->columns = want & 2 && want & 4 ? NULL : t->columns;
    t->nlacking = g->h > 31 ? UINT64_MAX : want & 128 ? take(in) : 0;
    /* Pointers that make_outputs replaces by blocks. */
    g->images = want & 8 ? NULL : (uint8_t *)t;
    g->labels = want & 2 ? (void *)t : NULL;
    g->shapes = want & 16 ? (void *)t : NULL;
    g->spec_range = want & 32 ? (void *)t : NULL;
    g->flat_at = want & 64 ? (void *)t : NULL;
    if (kind >= 0xf8) {
        t->flat_lie_at = take(in);
        t->flat_lie = take_n(in, kind & 1 ? 8 : 1);
    }
}

static mapix_entry entry_of(const slow_record *r) {
    return (mapix_entry){r->at | (uint64_t)r->n << 56, (uint16_t)r->h, (uint16_t)r->w,
                         (uint16_t)r->c, 0};
}

/* The true index of the file, with lies put in. */
static void take_index(gather_case *t, input *in, const slow_file *slow) {
    const unsigned kind = take(in), nlies = take(in) & 3;
    mapix_table *x = &t->index;
    mapix_entry *entries = NULL;
    x->interleaved = kind & 1;
    x->head_nbytes += (kind & 0x70) == 0x70; /* no dialect has that many */
    x->nrecords = slow->nrecords;
    if (slow->nrecords) {
        x->first = entry_of(&slow->records[0]);
        x->stride = slow->records[0].end;
    }
    if (kind & 2) { /* a stride, true for the first records at least */
        x->nrecords += kind >> 2 & 3;
    } else {
        entries = block(x->nrecords * sizeof *entries);
        for (uint64_t i = 0; i < x->nrecords; i++) {
            entries[i] = entry_of(&slow->records[i]);
        }
        x->entries = entries;
        x->stride = 0;
        x->end = kind & 8 && x->nrecords ? slow->records[x->nrecords - 1].end : 0;
    }
    for (unsigned k = 0; k < nlies; k++) {
        const unsigned where = take(in), which = take(in);
        const uint64_t lie = take_n(in, where & 64 ? 8 : 1);
        mapix_entry *e = entries && x->nrecords ? &entries[which % x->nrecords] : &x->first;
        switch (where & 7) {
        case 0: e->at_n ^= lie; break;
        case 1: e->at_n ^= lie << 56; break;
        case 2: e->h = (uint16_t)(e->h ^ lie); break;
        case 3: e->w = (uint16_t)(e->w ^ lie); break;
        case 4: e->c = (uint16_t)(e->c ^ lie); break;
        case 5: x->stride = entries ? 0 : x->stride ^ lie; break;
        case 6: x->stride = entries ? 0 : lie; break;
        default:
            x->nrecords = entries ? x->nrecords : lie;
            x->end ^= x->end ? lie : 0;
            break;
        }
    }
}

static void take_rows(gather_case *t, input *in, const slow_file *slow) {
    t->nrows = take(in) % (MOST_ROWS + 1);
    t->rows = block(t->nrows * sizeof *t->rows);
    const unsigned spread = take(in), which = take(in);
    mapix_gather *g = &t->gather;
    if (t->own_canvas && slow->nrecords) {
        const slow_record *r = &slow->records[which % slow->nrecords];
        g->h = r->h;
        g->w = r->w;
        g->c = r->c > MOST_CHANNELS ? MOST_CHANNELS : r->c;
    }
    for (uint64_t i = 0; i < t->nrows; i++) {
        const uint8_t code = take(in);
        const uint64_t n = t->index.nrecords ? t->index.nrecords : 1;
        int64_t row = (int64_t)(code % n);
        if (spread & 1 && n < INT64_MAX) {
            row -= code & 1 ? (int64_t)n : 0; /* the same record, from the end */
        }
        if (code == 255 && spread & 2) { /* one that is out of range, near or far */
            row = (int64_t)(take_n(in, spread & 4 ? 8 : 1) - 1);
        }
        t->rows[i] = row;
    }
    while (t->nrows > 1 && t->nrows * g->h * g->w * g->c > MOST_PIXELS) {
        t->nrows /= 2; /* the reference reads every pixel of the canvas */
    }
}

/* --- the slow reference: one record, one pixel at a time -------------------------------------------*/

/* What record rows[i] is: a status and *r, located by the index alone. */
static int slow_locate(const gather_case *t, uint64_t i, slow_record *r, mapix_where *where) {
    const mapix_table *x = &t->index;
    const __int128 n = x->nrecords, asked = t->rows[i], row = asked < 0 ? n + asked : asked;
    if (row < 0 || row >= n) {
        *where = (mapix_where){i, 0, x->nrecords, (uint64_t)asked};
        return MAPIX_E_ROW;
    }
    const mapix_entry e = x->entries ? x->entries[row] : x->first;
    const unsigned __int128 at = (e.at_n & ((UINT64_C(1) << 56) - 1)) +
                                 (unsigned __int128)(x->entries ? 0 : row) * x->stride;
    r->h = e.h;
    r->w = e.w;
    r->c = e.c;
    r->n = (unsigned)(e.at_n >> 56);
    const uint64_t front = x->head_nbytes ? x->head_nbytes + 1 + 2 * r->n : 0;
    const uint64_t size = x->head_nbytes ? front + (uint64_t)e.h * e.w * e.c : x->stride;
    where->record = (uint64_t)row;
    if (at + size > t->map.nbytes) {
        where->expected = size;
        where->got = at > t->map.nbytes ? 0 : t->map.nbytes - (uint64_t)at;
        return MAPIX_E_SPAN;
    }
    where->at = r->at = (uint64_t)at;
    r->end = r->at + size;
    if (x->entries && x->end) {
        const uint64_t mask = (UINT64_C(1) << 56) - 1, begin = x->first.at_n & mask;
        const uint64_t next = row + 1 == n ? x->end : x->entries[row + 1].at_n & mask;
        const int first = row == 0 && r->at != begin;
        if (first || next != r->end) {
            where->expected = first ? begin : r->end;
            where->got = first ? r->at : next;
            return MAPIX_E_CHAIN;
        }
    }
    r->pairs_at = r->at + x->head_nbytes + 1;
    r->image_at = r->at + front;
    return MAPIX_OK;
}

static int slow_fits(const mapix_gather *g, const slow_record *r) {
    if (r->c > g->c || (r->c < g->c && !(g->fit & MAPIX_PAD))) {
        return 0;
    }
    if ((r->h > g->h || r->w > g->w) && !(g->fit & MAPIX_CROP)) {
        return 0;
    }
    return (r->h >= g->h && r->w >= g->w) || (g->fit & MAPIX_PAD);
}

/* The status that gathering rows[i] gives when all before it went well. */
static int slow_status(const gather_case *t, uint64_t i, slow_record *r, mapix_where *where) {
    const int status = slow_locate(t, i, r, where);
    if (status || !t->index.head_nbytes) {
        return status;
    }
    slow_record now;
    mapix_where ignored;
    const int found = slow_read(t->file, t->map.nbytes, r->at, t->index.head_nbytes, &now, &ignored);
    const uint64_t shape = (uint64_t)r->h << 32 | (uint64_t)r->w << 16 | r->c;
    if (found == MAPIX_E_TRUNCATED || now.h != r->h || now.w != r->w || now.c != r->c ||
        now.n != r->n) {
        where->expected = shape;
        where->got = (uint64_t)now.h << 32 | (uint64_t)now.w << 16 | now.c;
        return MAPIX_E_STALE;
    }
    const mapix_gather *g = &t->gather;
    const uint64_t image = r->end - r->image_at;
    if (g->flat_at && ((unsigned __int128)g->flat_at[i] + image > g->images_nbytes ||
                       g->flat_at[i + 1] != g->flat_at[i] + image)) {
        where->expected = where->got = shape;
        return MAPIX_E_STALE;
    }
    if (g->images && !g->flat_at && !slow_fits(g, r)) {
        where->expected = (uint64_t)g->h << 32 | (uint64_t)g->w << 16 | g->c;
        where->got = shape;
        return MAPIX_E_SHAPE;
    }
    return MAPIX_OK;
}

static int slow_usable(const gather_case *t) {
    const mapix_gather *g = &t->gather;
    const mapix_table *x = &t->index;
    static const unsigned items[3] = {1, 4, 2};
    const mapix_entry *first = &x->first;
    const uint64_t size = x->head_nbytes + 1 + 2 * (first->at_n >> 56) +
                          (uint64_t)first->h * first->w * first->c;
    const int repeats = x->entries || x->nrecords == 0 || x->stride == size;
    if ((x->head_nbytes != 6 && x->head_nbytes != 14) || !repeats || g->dtype > 2 ||
        g->layout > 1 || (g->labels && !g->columns) || (g->flat_at && g->dtype)) {
        return 0;
    }
    if (g->flat_at || !g->images) {
        return !g->flat_at || g->images;
    }
    if (g->h > 65535) {
        return 0;
    }
    const unsigned __int128 need = (unsigned __int128)t->nrows * g->h * g->w * g->c;
    return need && (!g->dtype || g->affine) && need * items[g->dtype] <= g->images_nbytes;
}

/* To half precision by the definition: the nearest multiple of a power of two, ties to even. */
static double slow_half(float x) {
    int exponent;
    const double magnitude = frexp(fabs((double)x), &exponent) ? fabs((double)x) : 0.0;
    const double unit = ldexp(1.0, (exponent < -13 ? -13 : exponent) - 11);
    const double rounded = nearbyint(magnitude / unit) * unit;
    return isfinite(x) ? copysign(rounded > 65504.0 ? INFINITY : rounded, x) : (double)x;
}

static double value_of_half(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double sign = bits >> 15 ? -1.0 : 1.0;
    if (exponent == 31) {
        return fraction ? (double)NAN : sign * (double)INFINITY;
    }
    return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
}

static int same_value(double a, double b) {
    return a == b || (isnan(a) && isnan(b));
}

/* Pixel (y, x, k) of a record's canvas must be what the definition says. */
static void check_pixel(const gather_case *t, const slow_record *r, const void *canvas, unsigned y,
                        unsigned x, unsigned k) {
    const mapix_gather *g = &t->gather;
    const unsigned centre = g->fit & MAPIX_CENTRE;
    const unsigned from_y = y + (centre && r->h > g->h ? (r->h - g->h) / 2 : 0);
    const unsigned from_x = x + (centre && r->w > g->w ? (r->w - g->w) / 2 : 0);
    const uint64_t to = g->layout == MAPIX_NHWC ? ((uint64_t)y * g->w + x) * g->c + k
                                                : ((uint64_t)k * g->h + y) * g->w + x;
    const int inside = from_y < r->h && from_x < r->w && k < r->c;
    float want = g->pad_value;
    uint8_t byte = isnan(want) || want < 0 ? 0 : want > 255 ? 255 : (uint8_t)want;
    if (inside) {
        const uint64_t at = t->index.interleaved ? ((uint64_t)from_y * r->w + from_x) * r->c + k
                                                 : ((uint64_t)k * r->h + from_y) * r->w + from_x;
        byte = t->file[r->image_at + at];
        want = g->dtype ? fmaf((float)byte, g->affine[2 * k], g->affine[2 * k + 1]) : 0.0f;
    }
    if (g->dtype == MAPIX_U8) {
        CHECK(((const uint8_t *)canvas)[to] == byte);
    } else if (g->dtype == MAPIX_F32) {
        CHECK(same_value((double)((const float *)canvas)[to], (double)want));
    } else {
        CHECK(same_value(value_of_half(((const uint16_t *)canvas)[to]), slow_half(want)));
    }
}

static void check_image(const gather_case *t, const slow_record *r, uint64_t i) {
    const mapix_gather *g = &t->gather;
    const uint64_t image = r->end - r->image_at;
    for (uint64_t k = 0; g->swap && k < image; k++) {
        const uint64_t from = k / g->swap * g->swap + g->swap - 1 - k % g->swap;
        CHECK(g->images[i * image + k] == t->file[r->image_at + from]);
    }
    if (g->swap) {
        return;
    }
    if (g->flat_at) {
        CHECK(g->flat_at[i + 1] == g->flat_at[i] + image);
        CHECK(memcmp(g->images + g->flat_at[i], t->file + r->image_at, image) == 0);
        return;
    }
    static const unsigned items[3] = {1, 4, 2};
    const uint64_t canvas = (uint64_t)g->h * g->w * g->c * items[g->dtype];
    for (unsigned y = 0; y < g->h; y++) {
        for (unsigned x = 0; x < g->w; x++) {
            for (unsigned k = 0; k < g->c; k++) {
                check_pixel(t, r, g->images + i * canvas, y, x, k);
            }
        }
    }
}

static void check_labels(const gather_case *t, const slow_record *r, uint64_t i) {
    const mapix_gather *g = &t->gather;
    for (unsigned column = 0; column < g->ncolumns; column++) {
        int value = -1;
        for (unsigned k = 0; k < r->n; k++) { /* of an id that occurs twice, the last counts */
            const uint8_t *pair = t->file + r->pairs_at + 2 * k;
            value = t->columns[pair[0]] == (int)column ? pair[1] : value;
        }
        CHECK(g->present[i * g->ncolumns + column] == (value >= 0));
        CHECK(g->labels[i * g->ncolumns + column] == (value >= 0 ? value : 0));
    }
}

static void check_outputs(const gather_case *all) {
    const mapix_gather *g = &all->gather;
    for (uint64_t i = 0; i < all->nrows; i++) {
        const gather_case *t = part_of_row(all, i);
        slow_record r;
        mapix_where where;
        CHECK(slow_locate(t, i, &r, &where) == MAPIX_OK);
        if (g->images) {
            check_image(t, &r, i);
        }
        if (g->labels) {
            check_labels(t, &r, i);
        }
        if (g->shapes) {
            const uint16_t *s = g->shapes + 3 * i;
            CHECK(s[0] == r.h && s[1] == r.w && s[2] == r.c);
        }
        if (g->spec_range && t->index.head_nbytes == 14) {
            CHECK(memcmp(g->spec_range + 2 * i, t->file + r.at + 6, 8) == 0);
        } else if (g->spec_range) {
            CHECK(isnan(g->spec_range[2 * i]) && isnan(g->spec_range[2 * i + 1]));
        }
    }
}

/* --- the call ---------------------------------------------------------------------------------*/

/* Exactly as much memory as the gather may use. */
static void make_outputs(gather_case *t) {
    mapix_gather *g = &t->gather;
    static const unsigned items[4] = {1, 4, 2, 1};
    uint64_t need = t->nrows * g->h * g->w * g->c * items[g->dtype];
    if (g->flat_at) {
        uint64_t *flat_at = block((t->nrows + 1) * sizeof *flat_at);
        need = 0;
        for (uint64_t i = 0; i < t->nrows; i++) {
            slow_record r;
            mapix_where where;
            flat_at[i] = need;
            need += slow_locate(t, i, &r, &where) ? 0 : r.end - r.image_at;
        }
        flat_at[t->nrows] = need;
        flat_at[t->flat_lie_at % (t->nrows + 1)] ^= t->flat_lie;
        g->flat_at = flat_at;
    }
    need = g->swap ? t->nrows * t->index.stride : need;
    g->images_nbytes = need - (t->nlacking < need ? t->nlacking : need);
    g->images = g->images ? block(g->images_nbytes) : NULL;
    g->present = g->labels ? block(t->nrows * g->ncolumns) : NULL;
    g->labels = g->labels ? block(t->nrows * g->ncolumns) : NULL;
    g->shapes = g->shapes ? block(t->nrows * 3 * sizeof *g->shapes) : NULL;
    g->spec_range = g->spec_range ? block(t->nrows * 2 * sizeof *g->spec_range) : NULL;
}

static void free_case(gather_case *t) {
    mapix_gather *g = &t->gather;
    free((void *)(uintptr_t)g->flat_at);
    free(g->images);
    free(g->labels);
    free(g->present);
    free(g->shapes);
    free(g->spec_range);
    free(t->rows);
    free((void *)(uintptr_t)t->index.entries);
}

static int same_error(int status, const mapix_where *where, int want, const mapix_where *w) {
    if (status != want || where->record != w->record) {
        return 0;
    }
    return where->expected == w->expected && where->got == w->got &&
           (status == MAPIX_E_SPAN || where->at == w->at);
}

/* Is `status` one that the reference allows?  The first row that cannot be gathered decides; but the test
 * at the page cache goes over the index before, and may find a later row that the index alone shows
 * to be bad. */
static int allowed(const gather_case *t, int status, const mapix_where *where) {
    const int ahead = t->gather.probe > 0;
    int all_well = 1, decided = 0;
    for (uint64_t i = 0; i < t->nrows; i++) {
        mapix_where w = {0}, v = {0};
        slow_record r;
        const gather_case *part = part_of_row(t, i);
        const int located = slow_locate(part, i, &r, &w);
        const int want = slow_status(part, i, &r, &v), here = !t->parts || t->failed == t->which[i];
        if ((!decided && want && here && same_error(status, where, want, &v)) ||
            (ahead && located && here && same_error(status, where, located, &w))) {
            return 1;
        }
        decided |= want != MAPIX_OK;
        all_well &= want == MAPIX_OK;
        if (status == MAPIX_E_FAULT && !located && here && where->record == w.record && r.end > part->kept) {
            return 1;
        }
    }
    return all_well && status == MAPIX_OK;
}

static void check_gather(gather_case *t) {
    make_outputs(t);
    mapix_where where = {0};
    const int status =
        mapix_table_gather(&t->map, &t->index, t->rows, t->nrows, &t->gather, &where);
    if (t->nrows == 0) {
        CHECK(status == MAPIX_OK);
    } else if (!slow_usable(t)) {
        CHECK(status == MAPIX_E_ARGUMENT);
    } else {
        CHECK(allowed(t, status, &where));
    }
    if (status == MAPIX_OK) {
        check_outputs(t);
    }
}

/* The file in a mapping of which only the first pages are left. */
static uint8_t *map_without_tail(gather_case *t, uint64_t npages) {
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)t->map.nbytes) == 0);
    uint8_t *base = mmap(NULL, t->map.nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(base != MAP_FAILED);
    memcpy(base, t->file, t->map.nbytes);
    t->kept = npages * page < t->map.nbytes ? npages * page : t->map.nbytes;
    CHECK(ftruncate(fd, (off_t)t->kept) == 0 && close(fd) == 0);
    t->map.base = base;
    return base;
}

/* --- several files -------------------------------------------------------------------------------- */

/* The file of records, cut into parts with a stride each, and lies put in. */
static void take_parts(gather_case *t, gather_case *parts, unsigned nparts, input *in, const slow_file *slow) {
    static const mapix_entry some_entry;
    const unsigned kind = take(in), stride = take(in), nlies = take(in) & 3;
    const uint64_t n = slow->nrecords, whole = t->map.nbytes;
    t->gather.swap = kind & 1 ? 1u << (kind >> 1 & 3) : 0;
    t->index.stride = 1 + stride;
    for (unsigned k = 0; k < nparts; k++) {
        const uint64_t lo = n * k / nparts, hi = n * (k + 1) / nparts;
        const uint64_t from = t->gather.swap ? whole * k / nparts : lo < hi ? slow->records[lo].at : 0;
        const uint64_t to = t->gather.swap ? whole * (k + 1) / nparts : lo < hi ? slow->records[hi - 1].end : 0;
        gather_case *p = &parts[k];
        mapix_table *x = &p->index;
        uint8_t *file = block(to - from);
        memcpy(file, t->file + from, to - from);
        *p = *t;
        p->file = file;
        p->kept = to - from;
        p->map = (mapix_map){.base = file, .nbytes = to - from, .fd = -1};
        *x = (mapix_table){.nrecords = (to - from) / (1 + stride), .stride = 1 + stride};
        if (!t->gather.swap) {
            *x = (mapix_table){.nrecords = hi - lo, .head_nbytes = t->index.head_nbytes};
            if (lo < hi) {
                x->first = entry_of(&slow->records[lo]);
                x->first.at_n -= from;
                x->stride = slow->records[lo].end - from;
            }
        }
    }
    for (unsigned k = 0; k < nlies; k++) {
        const unsigned what = take(in) & 7, which = take(in) % nparts, lie = take(in);
        mapix_table *x = &parts[which].index;
        switch (what) {
        case 0: x->nrecords += lie; break;
        case 1: x->stride ^= lie; break;
        case 2: x->head_nbytes ^= 8; break;
        case 3: x->interleaved = 1; break;
        case 4: x->first.at_n += lie; break;
        case 5: x->first.h = (uint16_t)(x->first.h ^ lie); break;
        case 6: x->nrecords = 0; break;
        default: x->entries = &some_entry; break;
        }
    }
}

static int slow_part_usable(const gather_case *p) {
    const mapix_gather *g = &p->gather;
    if (!g->swap) {
        return slow_usable(p);
    }
    return !p->index.head_nbytes && p->index.stride && g->dtype <= 2 && g->layout <= 1 &&
           g->images && !(g->labels && !g->columns) && p->index.stride % g->swap == 0 &&
           p->nrows * p->index.stride <= g->images_nbytes;
}

/* Give each row its part and its number there: what the core states about a row, or a part, that it refuses. */
static int slow_divide(const gather_case *t, const mapix_part *given, unsigned nparts, uint32_t *which,
                       int64_t *local, uint8_t *touched, mapix_where *where, uint64_t *failed) {
    const __int128 n = t->index.nrecords;
    for (uint64_t i = 0; i < t->nrows; i++) {
        const __int128 row = t->rows[i] < 0 ? n + t->rows[i] : t->rows[i];
        if (row < 0 || row >= n) {
            *where = (mapix_where){i, 0, t->index.nrecords, (uint64_t)t->rows[i]};
            return MAPIX_E_ROW;
        }
        unsigned k = 0;
        while (row < given[k].begin || row >= (__int128)given[k].begin + given[k].table->nrecords) {
            CHECK(++k < nparts);
        }
        which[i] = k;
        local[i] = (int64_t)row - (int64_t)given[k].begin;
        if (!touched[k]++) {
            const mapix_table *x = given[k].table, *first = given[which[0]].table;
            *failed = k;
            if (x->entries || !slow_part_usable(&t->parts[k]) || (t->gather.swap && x->stride != first->stride)) {
                return MAPIX_E_ARGUMENT;
            }
        }
        touched[k] = 1;
    }
    return MAPIX_OK;
}

static void check_joint(gather_case *t, input *in, const slow_file *slow, unsigned nparts) {
    gather_case parts[MOST_PARTS];
    mapix_part given[MOST_PARTS];
    uint8_t *mapped = NULL, touched[MOST_PARTS] = {0}, touched_by_core[MOST_PARTS];
    uint32_t which[MOST_ROWS], core_which[MOST_ROWS];
    int64_t local[MOST_ROWS], core_local[MOST_ROWS];
    take_parts(t, parts, nparts, in, slow);
    const unsigned gone = take(in), lost = take(in);
    t->index.nrecords = 0;
    for (unsigned k = 0; k < nparts; k++) {
        given[k] = (mapix_part){&parts[k].map, &parts[k].index, t->index.nrecords};
        t->index.nrecords += parts[k].index.nrecords;
    }
    if (gone < nparts && parts[gone].map.nbytes) {
        mapped = map_without_tail(&parts[gone], 0);
    }
    if (lost < nparts) {
        parts[lost].map.fd = 1 << 30;
    }
    take_rows(t, in, slow);
    const int flat = t->gather.flat_at != NULL;
    t->gather.flat_at = NULL;
    make_outputs(t);
    for (unsigned k = 0; k < nparts; k++) {
        parts[k].gather = t->gather;
        parts[k].rows = local;
        parts[k].nrows = t->nrows;
    }
    t->parts = parts;
    t->which = which;
    mapix_where where = {9, 9, 9, 9}, bad = {0};
    uint64_t failed = 0;
    const int want = slow_divide(t, given, nparts, which, local, touched, &bad, &failed);
    mapix_joint joint = {given, nparts, core_which, core_local, touched_by_core, 99};
    const uint64_t some_offsets[2] = {0, 0};
    t->gather.flat_at = flat ? some_offsets : NULL;
    const int status = mapix_joint_gather(&joint, t->rows, t->nrows, &t->gather, &where);
    t->gather.flat_at = NULL;
    t->failed = joint.failed;
    if (t->nrows == 0) {
        CHECK(status == MAPIX_OK);
    } else if (flat) {
        CHECK(status == MAPIX_E_ARGUMENT);
    } else if (want) {
        CHECK(status == want);
        CHECK(want == MAPIX_E_ROW ? !memcmp(&where, &bad, sizeof bad) : joint.failed == failed);
    } else if (lost < nparts && touched[lost]) {
        CHECK((status == MAPIX_E_CHANGED && joint.failed == lost) ||
              (status == MAPIX_E_SPAN && t->gather.probe && allowed(t, status, &where)));
    } else {
        CHECK(allowed(t, status, &where));
        CHECK(!memcmp(touched, touched_by_core, nparts));
    }
    if (status == MAPIX_OK) {
        check_outputs(t);
    }
    uint64_t nasked = 9;
    const int asked = mapix_joint_willneed(&joint, t->rows, t->nrows, MAPIX_PROBE_NONE, &nasked, &where);
    CHECK(nasked == (asked ? 0 : t->nrows) && (asked || status != MAPIX_E_ROW));
    CHECK(!asked || status || (lost < nparts && touched[lost]));
    joint.nparts = 0;
    CHECK(!t->nrows || mapix_joint_willneed(&joint, t->rows, t->nrows, 1, &nasked, &where) == MAPIX_E_ARGUMENT);
    CHECK(!t->nrows || mapix_joint_gather(&joint, t->rows, t->nrows, &t->gather, &where) == MAPIX_E_ARGUMENT);
    joint.nparts = (uint64_t)UINT32_MAX + 1;
    CHECK(!t->nrows || mapix_joint_gather(&joint, t->rows, t->nrows, &t->gather, &where) == MAPIX_E_ARGUMENT);
    CHECK(!mapped || munmap(mapped, parts[gone].map.nbytes) == 0);
    for (unsigned k = 0; k < nparts; k++) {
        free((void *)(uintptr_t)parts[k].file);
    }
}

/* Wrong arguments are reported; none of their pointers is followed. */
static void check_mistakes(void) {
    static const uint8_t file[8] = {1, 0, 1, 0, 1, 0, 0, 77};
    const mapix_map map = {.base = file, .nbytes = sizeof file, .fd = -1};
    mapix_table index = {.nrecords = 1, .stride = 8, .head_nbytes = 6};
    index.first = (mapix_entry){0, 1, 1, 1, 0};
    static float pixel;
    static uint8_t labels[1];
    static uint64_t flat_at[2] = {0, 1};
    static int16_t columns[256];
    const float affine[2] = {2.0f, 1.0f};
    const int64_t row = 0;
    const mapix_gather good = {.images = (uint8_t *)&pixel, .images_nbytes = sizeof pixel, .dtype = MAPIX_F32,
                               .h = 1, .w = 1, .c = 1, .affine = affine};
    mapix_gather g[18];
    for (int k = 0; k < 18; k++) {
        g[k] = good;
    }
    g[0].dtype = MAPIX_F16 + 1;
    g[1].layout = MAPIX_NHWC + 1;
    g[2].labels = labels, g[2].columns = columns;
    g[3].labels = labels, g[3].present = labels;
    g[4].flat_at = flat_at;
    g[5].flat_at = flat_at, g[5].dtype = MAPIX_U8, g[5].images = NULL;
    g[6].h = 0, g[7].w = 0, g[8].c = 0;
    g[9].h = 65536, g[10].w = 65536, g[11].c = 65536;
    g[12].affine = NULL;
    g[13].images = (uint8_t *)&pixel + 1;
    g[14].images_nbytes = sizeof pixel - 1;
    g[15].swap = 1; /* of records with headers */
    g[16].swap = 3;
    g[17].swap = 1, g[17].flat_at = flat_at;
    mapix_where where;
    for (int k = 0; k < 18; k++) {
        CHECK(mapix_table_gather(&map, &index, &row, 1, &g[k], &where) == MAPIX_E_ARGUMENT);
    }
    uint64_t nasked = 9;
    mapix_gather probed = good;
    probed.probe = 1, probed.nasked = &nasked;
    CHECK(mapix_table_gather(&map, &index, &row, 1, &probed, &where) == MAPIX_OK && nasked <= 1);
    CHECK(pixel == 155.0f);
    pixel = 0, probed.probe = MAPIX_PROBE_NONE;
    CHECK(mapix_table_gather(&map, &index, &row, 1, &probed, &where) == MAPIX_OK && nasked == 1);
    CHECK(pixel == 155.0f);
    mapix_map lost = map; /* whether the file changed cannot be found out */
    lost.fd = 1 << 30;
    CHECK(mapix_table_gather(&lost, &index, &row, 1, &good, &where) == MAPIX_E_CHANGED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    static uint8_t room[ROOM];
    input in = {data, nbytes}, file_part = in;
    /* The file comes last in the input, but the index is made from it: skip ahead to it. */
    const size_t front = nbytes < 96 ? nbytes : 96;
    file_part.next += front;
    file_part.left -= front;
    in.left = front;
    gather_case t;
    memset(&t, 0, sizeof t);
    const unsigned flags = take(&in);
    t.index.head_nbytes = flags & 1 ? 14 : 6;
    draft d = {.bytes = room, .room = sizeof room, .head_nbytes = t.index.head_nbytes};
    draft_file(&d, &file_part, flags & 2);
    uint8_t *file = block(d.nbytes);
    memcpy(file, room, d.nbytes);
    slow_file slow = slow_walk(file, d.nbytes, t.index.head_nbytes);
    t.file = file;
    t.map = (mapix_map){.base = file, .nbytes = d.nbytes, .fd = -1};
    t.kept = d.nbytes;
    uint8_t *mapped = NULL;
    if ((flags & 0x1c) == 0x1c && d.nbytes) {
        mapped = map_without_tail(&t, flags >> 5);
    }
    take_order(&t, &in);
    if ((flags & 0x1c) == 0x18) {
        check_joint(&t, &in, &slow, 1 + (flags >> 5));
    } else {
        take_index(&t, &in, &slow);
        take_rows(&t, &in, &slow);
        check_gather(&t);
        ONCE(check_mistakes());
    }
    CHECK(!mapped || munmap(mapped, t.map.nbytes) == 0);
    free_case(&t);
    free(slow.records);
    free(file);
    return 0;
}
