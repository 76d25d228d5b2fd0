/* iid_pack.c - a mask into the regions of a segment: 8-connected components, packed. */
#include "iid.h"

typedef struct {
    uint32_t root, value, at;       /* root: number of a run, in the end of the component's first run */
    uint16_t row, begin, end;       /* columns, half open */
    uint16_t minr, minc, maxr, maxc; /* `at` and these are the component's, in its first run */
} mask_run;

enum { RUN_WORDS = sizeof(mask_run) / 4 };
_Static_assert(sizeof(mask_run) % 4 == 0, "scratch is counted in words");

uint64_t mapix_iid_scratch(uint64_t nruns) {
    return nruns * RUN_WORDS;
}

static uint32_t root_of(mask_run *runs, uint32_t i) {
    while (runs[i].root != i) {
        runs[i].root = runs[runs[i].root].root; /* halve the way */
        i = runs[i].root;
    }
    return i;
}

static inline void widen(mask_run *root, const mask_run *r) {
    root->minc = r->minc < root->minc ? r->minc : root->minc;
    root->maxc = r->maxc > root->maxc ? r->maxc : root->maxc;
    root->maxr = r->maxr > root->maxr ? r->maxr : root->maxr; /* its first row is above all others */
}

/* Two components become one, that of the earlier run: they come in the order of their first pixel. */
static uint32_t join(mask_run *runs, uint32_t a, uint32_t b) {
    const uint32_t root = a < b ? a : b, other = a < b ? b : a;
    if (a != b) {
        runs[other].root = root;
        widen(&runs[root], &runs[other]);
    }
    return root;
}

/* A mask, and the runs of one value that were found in it so far.  Without `runs` they are counted. */
typedef struct {
    const uint8_t *mask;
    uint64_t nbytes;
    mask_run *runs;
    uint64_t area;
    uint64_t capacity;             /* for runs; more than that are counted, and not stored */
    uint32_t n, before, above; /* runs; first of the row before; first of those that may still touch */
} run_finder;

/* A run, joined with those of the row before that it touches. */
static inline void add_run(run_finder *f, uint32_t first, uint32_t row, uint32_t begin, uint32_t end,
                           uint32_t value) {
    mask_run *runs = f->runs;
    const uint32_t n = f->n++;
    if (n >= f->capacity) {
        return;
    }
    runs[n] = (mask_run){.root = n, .value = value, .row = (uint16_t)row, .begin = (uint16_t)begin,
                         .end = (uint16_t)end, .minr = (uint16_t)row, .minc = (uint16_t)begin,
                         .maxr = (uint16_t)(row + 1), .maxc = (uint16_t)end};
    f->area += end - begin;
    while (f->above < first && runs[f->above].end < begin) {
        f->above++;
    }
    uint32_t root = n;
    for (uint32_t k = f->above; k < first && runs[k].begin <= end; k++) {
        if (runs[k].value == value) {
            root = join(runs, root, root_of(runs, k));
        }
    }
}

/* All runs of one value but 0 of a mask of words. */
static void find_wide_runs(run_finder *f, uint32_t h, uint32_t w) {
    for (uint32_t row = 0; row < h; row++) {
        const uint8_t *line = f->mask + 4 * ((uint64_t)row * w);
        const uint32_t first = f->n;
        f->above = f->before;
        for (uint32_t c = 0; c < w;) {
            const uint32_t begin = c, value = iid_u32(line + 4 * (uint64_t)c);
            while (c < w && iid_u32(line + 4 * (uint64_t)c) == value) {
                c++;
            }
            if (value) {
                add_run(f, first, row, begin, c, value);
            }
        }
        f->before = first;
    }
}

#define BODY "iid_pack_body.h"
#include "each_level.h"

/* Ones to n bits from bit `from` on, of nbytes. */
static inline void set_bits(uint8_t *bits, uint64_t nbytes, uint64_t from, uint64_t n) {
    for (; n && (from >> 3) + 8 <= nbytes; n -= n < 56 ? n : 56, from += 56) {
        const uint64_t take = n < 56 ? n : 56, word = ~(UINT64_MAX >> take) >> (from & 7);
        uint64_t held;
        memcpy(&held, bits + (from >> 3), 8);
        held |= __builtin_bswap64(word);
        memcpy(bits + (from >> 3), &held, 8);
    }
    while (n) { /* the last bytes */
        const unsigned shift = from & 7;
        const unsigned take = n < 8 - shift ? (unsigned)n : 8 - shift;
        bits[from >> 3] |= (uint8_t)((0xFF00u >> take & 0xFFu) >> shift);
        from += take;
        n -= take;
    }
}

static void put_head(uint8_t *p, uint32_t length, uint32_t minr, uint32_t minc, const mask_run *c) {
    const uint16_t box[4] = {(uint16_t)(minr + c->minr), (uint16_t)(minc + c->minc),
                             (uint16_t)(minr + c->maxr), (uint16_t)(minc + c->maxc)};
    memcpy(p, &length, 4);
    memcpy(p + 4, box, 8);
}

static int find_all(run_finder *f, uint32_t wide, uint32_t h, uint32_t w) {
    if (h > 65535 || w > 65535) {
        return MAPIX_E_ARGUMENT;
    }
    if (wide) {
        find_wide_runs(f, h, w);
    } else {
        MAPIX_AT_LEVEL(find_runs)(f, h, w);
    }
    return MAPIX_OK;
}

int mapix_iid_runs(const void *mask, uint32_t wide, uint32_t h, uint32_t w, uint64_t *nruns) {
    run_finder finder = {.mask = mask, .nbytes = (uint64_t)h * w};
    const int status = find_all(&finder, wide, h, w);
    *nruns = finder.n;
    return status;
}

int mapix_iid_pack(const void *mask, uint32_t wide, uint32_t h, uint32_t w, uint32_t minr,
                   uint32_t minc, uint32_t *scratch, uint64_t nscratch, uint8_t *out,
                   uint64_t out_nbytes, uint64_t *nbytes, uint32_t *area, uint32_t *nregions) {
    if (h > 65535 || w > 65535 || minr > 65535 - h || minc > 65535 - w) {
        return MAPIX_E_ARGUMENT;
    }
    mask_run *runs = (mask_run *)(void *)scratch;
    run_finder finder = {
        .mask = mask, .nbytes = (uint64_t)h * w, .runs = runs, .capacity = nscratch / RUN_WORDS};
    const int status = find_all(&finder, wide, h, w);
    const uint32_t n = finder.n;
    if (status || n > finder.capacity) {
        return MAPIX_E_ARGUMENT;
    }
    uint64_t all = 0;
    *nregions = 0;
    for (uint32_t i = 0; i < n; i++) {
        mask_run *r = &runs[i];
        if (r->root == i) {
            const uint64_t box = (uint64_t)(r->maxr - r->minr) * (uint64_t)(r->maxc - r->minc);
            const uint64_t size = REGION_HEAD + (box + 7) / 8;
            if (all + size > UINT32_MAX) {
                return MAPIX_E_ARGUMENT;
            }
            r->at = (uint32_t)all;
            all += size;
            ++*nregions;
        }
    }
    *nbytes = all;
    *area = (uint32_t)finder.area;
    if (all > out_nbytes) {
        return MAPIX_E_ARGUMENT;
    }
    memset(out, 0, all);
    for (uint32_t i = 0; i < n; i++) {
        const mask_run *r = &runs[i], *root = &runs[root_of(runs, i)];
        const uint64_t width = (uint64_t)(root->maxc - root->minc);
        if (root == r) {
            const uint64_t box = (uint64_t)(r->maxr - r->minr) * width;
            put_head(out + r->at, (uint32_t)(REGION_HEAD + (box + 7) / 8), minr, minc, r);
        }
        const uint64_t from = (uint64_t)(r->row - root->minr) * width + (uint64_t)(r->begin - root->minc);
        const uint64_t behind = root->at + REGION_HEAD;
        set_bits(out + behind, out_nbytes - behind, from, (uint64_t)(r->end - r->begin));
    }
    return MAPIX_OK;
}

int mapix_iid_regions(const uint8_t *regions, uint64_t nbytes, const uint16_t *box,
                      mapix_where *where) {
    iid_segment s = {.box = {box[0], box[1], box[2], box[3]}, .regions = regions,
                     .regions_nbytes = nbytes};
    uint64_t at = 0;
    int more = 1, status = iid_upright(box) ? MAPIX_OK : iid_fail(where, MAPIX_E_IID_BOX, 0, 0, 0, 0);
    iid_region r;
    while (!status && !(status = iid_next_region(&s, &at, &r, &more, where)) && more) {
    }
    where->at = at;
    return status;
}
