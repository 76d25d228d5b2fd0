/* iid_pack.c - a mask into the regions of a segment: 8-connected components, packed. */
#include "iid.h"

typedef struct {
    uint32_t row, begin, end, value, root; /* root: number of a run, at last of the component's first */
    uint32_t minr, minc, maxr, maxc, at;   /* of the component, in its first run */
} mask_run;

uint64_t mapix_iid_scratch(uint32_t h, uint32_t w) {
    return (uint64_t)h * (((uint64_t)w + 1) / 2 + w / 2) * (sizeof(mask_run) / 4) + 4;
}

static uint32_t root_of(mask_run *runs, uint32_t i) {
    while (runs[i].root != i) {
        runs[i].root = runs[runs[i].root].root; /* halve the way */
        i = runs[i].root;
    }
    return i;
}

/* The earlier run becomes the root: components come in the order of their first pixel. */
static void join(mask_run *runs, uint32_t i, uint32_t k) {
    const uint32_t a = root_of(runs, i), b = root_of(runs, k);
    if (a < b) {
        runs[b].root = a;
    } else {
        runs[a].root = b;
    }
}

/* Runs of one value of a mask, joined with those of the row before that they touch. */
static uint32_t find_runs(const uint8_t *mask, uint32_t h, uint32_t w, mask_run *runs) {
    uint32_t n = 0, before = 0; /* first run of the row before */
    for (uint32_t row = 0; row < h; row++) {
        const uint8_t *p = mask + (uint64_t)row * w;
        const uint32_t first = n;
        uint32_t above = before;
        for (uint32_t c = 0; c < w;) {
            if (!p[c]) {
                c++;
                continue;
            }
            const uint32_t begin = c, value = p[c];
            while (c < w && p[c] == value) {
                c++;
            }
            runs[n] = (mask_run){.row = row, .begin = begin, .end = c, .value = value, .root = n};
            while (above < first && runs[above].end < begin) {
                above++;
            }
            for (uint32_t k = above; k < first && runs[k].begin <= c; k++) {
                if (runs[k].value == value) {
                    join(runs, n, k);
                }
            }
            n++;
        }
        before = first;
    }
    return n;
}

static void widen(mask_run *root, const mask_run *r) {
    root->minc = r->begin < root->minc ? r->begin : root->minc;
    root->maxc = r->end > root->maxc ? r->end : root->maxc;
    root->maxr = r->row + 1;
}

static void set_bits(uint8_t *bits, uint64_t from, uint64_t n) {
    while (n) {
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

int mapix_iid_pack(const uint8_t *mask, uint32_t h, uint32_t w, uint32_t minr, uint32_t minc,
                   uint32_t *scratch, uint8_t *out, uint64_t out_nbytes, uint64_t *nbytes,
                   uint32_t *area, uint32_t *nregions) {
    if (h > 65535 || w > 65535 || minr > 65535 - h || minc > 65535 - w) {
        return MAPIX_E_ARGUMENT;
    }
    mask_run *runs = (mask_run *)(void *)scratch;
    const uint32_t n = find_runs(mask, h, w, runs);
    uint64_t all = 0, pixels = 0;
    *nregions = 0;
    for (uint32_t i = 0; i < n; i++) { /* boxes of components; roots come before their runs */
        mask_run *r = &runs[i], *root = &runs[root_of(runs, i)];
        if (root == r) {
            r->minr = r->row;
            r->minc = r->begin;
        }
        widen(root, r);
        pixels += r->end - r->begin;
    }
    for (uint32_t i = 0; i < n; i++) {
        mask_run *r = &runs[i];
        if (r->root == i) {
            const uint64_t box = (uint64_t)(r->maxr - r->minr) * (r->maxc - r->minc);
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
    *area = (uint32_t)pixels;
    if (all > out_nbytes) {
        return MAPIX_E_ARGUMENT;
    }
    memset(out, 0, all);
    for (uint32_t i = 0; i < n; i++) {
        const mask_run *r = &runs[i], *root = &runs[root_of(runs, i)];
        const uint64_t width = root->maxc - root->minc;
        if (root == r) {
            const uint64_t box = (uint64_t)(r->maxr - r->minr) * width;
            put_head(out + r->at, (uint32_t)(REGION_HEAD + (box + 7) / 8), minr, minc, r);
        }
        const uint64_t from = (r->row - root->minr) * width + (r->begin - root->minc);
        set_bits(out + root->at + REGION_HEAD, from, r->end - r->begin);
    }
    return MAPIX_OK;
}
