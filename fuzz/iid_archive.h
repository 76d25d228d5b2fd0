/* iid_archive.h - what the targets for IID share: an archive out of an input, and a reader that goes
 * pixel by pixel. */
#ifndef MAPIX_FUZZ_IID_ARCHIVE_H
#define MAPIX_FUZZ_IID_ARCHIVE_H

#include "fuzz.h"

enum { MOST_SEGMENTS = 48, MOST_FILE = 32768 };
enum { SIDE = 40, WIDE = 84 }; /* the image's corner that the slow reader knows: wider than a word */

typedef struct {
    uint8_t *bytes;
    uint64_t nbytes;
    mapix_iid iid;
} archive;

static inline void put_32(draft *d, uint64_t value) {
    for (unsigned k = 0; k < 4; k++) {
        put(d, value >> (8 * k) & 255);
    }
}

static inline uint32_t get_32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Mostly a few; some archives have more segments than are read together. */
static inline unsigned take_nsegments(input *in) {
    const unsigned code = take(in);
    return code < 240 ? code % 7 : MOST_SEGMENTS - (255 - code) * 3;
}

/* Of a name's part: mostly up to three bytes, some of up to 34. */
static inline unsigned take_length(input *in) {
    const unsigned code = take(in);
    return (code & 3) + (code & 128 ? code >> 2 & 31 : 0);
}

/* Lookup rows, names and segments back to back, then some bytes changed. */
static inline archive take_archive(input *in, uint8_t *room) {
    const unsigned n = take_nsegments(in);
    draft names = {.bytes = room, .room = MOST_FILE / 4};
    draft segs = {.bytes = room + MOST_FILE / 4, .room = MOST_FILE / 2};
    draft lut = {.bytes = room + MOST_FILE * 3 / 4, .room = MOST_FILE / 4};
    for (unsigned key = 0; key < n; key++) {
        const unsigned nd = take_length(in), ni = take_length(in);
        put_32(&lut, key);
        put_32(&lut, names.nbytes);
        put_32(&lut, 12 + nd + ni);
        put_32(&names, key);
        put_32(&names, nd);
        put_32(&names, ni);
        for (unsigned k = 0; k < nd + ni; k++) {
            put(&names, 'a' + take(in) % 2);
        }
        const uint64_t begin = segs.nbytes;
        const unsigned r = take(in) % 8, c = take(in) % 8, h = take(in) % 12, w = take(in) % 72;
        put_32(&segs, key);
        const unsigned box[4] = {r, c, r + h, c + w};
        for (unsigned k = 0; k < 4; k++) {
            put_16(&segs, box[k]);
        }
        put_32(&segs, take(in));
        const unsigned code = take(in);
        for (unsigned regions = code == 255 ? 30 : code % 3; regions; regions--) {
            const unsigned a = h ? take(in) % (h + 1) : 0, b = w ? take(in) % (w + 1) : 0;
            const unsigned rh = h > a ? take(in) % (h - a + 1) : 0;
            const unsigned rw = w > b ? take(in) % (w - b + 1) : 0;
            const unsigned nbits = (rh * rw + 7) / 8;
            put_32(&segs, 12 + nbits);
            const unsigned inner[4] = {r + a, c + b, r + a + rh, c + b + rw};
            for (unsigned k = 0; k < 4; k++) {
                put_16(&segs, inner[k]);
            }
            for (unsigned k = 0; k < nbits; k++) {
                put(&segs, take(in));
            }
        }
        put_32(&lut, begin);
        put_32(&lut, segs.nbytes - begin);
    }
    archive a = {.nbytes = lut.nbytes + names.nbytes + segs.nbytes};
    a.bytes = block(a.nbytes);
    memcpy(a.bytes, lut.bytes, lut.nbytes);
    memcpy(a.bytes + lut.nbytes, names.bytes, names.nbytes);
    memcpy(a.bytes + lut.nbytes + names.nbytes, segs.bytes, segs.nbytes);
    a.iid = (mapix_iid){.nsegments = lut.nbytes / 20,
                        .lut_at = 0,
                        .iids_at = lut.nbytes,
                        .iids_nbytes = names.nbytes,
                        .segs_at = lut.nbytes + names.nbytes,
                        .segs_nbytes = segs.nbytes};
    for (unsigned changes = take(in) % 4; changes && a.nbytes; changes--) {
        const uint64_t at = take_n(in, 2) % a.nbytes;
        a.bytes[at] = take(in);
    }
    if (take(in) == 255) { /* sections that lie */
        a.iid.segs_nbytes += take_n(in, 2);
        a.iid.nsegments += take(in);
    }
    return a;
}

/* --- the slow reader ---------------------------------------------------------------------------- */

typedef struct {
    unsigned box[4];
    uint32_t area;
    uint8_t pixels[SIDE][WIDE]; /* of the image's corner, in which all segments lie */
} slow_segment;

/* 0: fine.  1: its row or head is bad.  2: a region is. */
static inline int slow_read_segment(const archive *a, uint32_t key, slow_segment *s) {
    memset(s, 0, sizeof *s);
    const uint8_t *row = a->bytes + 20 * (uint64_t)key;
    const uint64_t name_at = get_32(row + 4), name_n = get_32(row + 8);
    const uint64_t seg_at = get_32(row + 12), seg_n = get_32(row + 16);
    if (get_32(row) != key || name_at + name_n > a->iid.iids_nbytes || name_n < 12 ||
        seg_at + seg_n > a->iid.segs_nbytes || seg_n < 16) {
        return 1;
    }
    const uint8_t *p = a->bytes + a->iid.segs_at + seg_at, *end = p + seg_n;
    if (get_32(p) != key && get_32(p + 12) != key) {
        return 1;
    }
    s->area = get_32(p) == key ? get_32(p + 12) : get_32(p);
    for (unsigned k = 0; k < 4; k++) {
        s->box[k] = p[4 + 2 * k] | (unsigned)p[5 + 2 * k] << 8;
    }
    if (s->box[0] > s->box[2] || s->box[1] > s->box[3]) {
        return 1;
    }
    for (p += 16; p < end;) {
        if (end - p < 12) {
            return 2;
        }
        unsigned b[4];
        for (unsigned k = 0; k < 4; k++) {
            b[k] = p[4 + 2 * k] | (unsigned)p[5 + 2 * k] << 8;
        }
        if (b[0] > b[2] || b[1] > b[3] || b[0] < s->box[0] || b[1] < s->box[1] ||
            b[2] > s->box[2] || b[3] > s->box[3]) {
            return 2;
        }
        const uint64_t bits = (uint64_t)(b[2] - b[0]) * (b[3] - b[1]), length = get_32(p);
        if (length != 12 + (bits + 7) / 8 || length > (uint64_t)(end - p)) {
            return 2;
        }
        for (uint64_t i = 0; i < bits; i++) {
            const uint64_t y = b[0] + i / (b[3] - b[1]), x = b[1] + i % (b[3] - b[1]);
            if (y < SIDE && x < WIDE) {
                s->pixels[y][x] |= p[12 + i / 8] >> (7 - i % 8) & 1;
            }
        }
        p += length;
    }
    return 0;
}

static inline int slow_has(const slow_segment *s, unsigned y, unsigned x) {
    return y < SIDE && x < WIDE && s->pixels[y][x];
}

static inline void take_window(input *in, uint16_t window[4]) {
    const unsigned r = take(in) % (SIDE - 10), c = take(in) % (WIDE - 10);
    window[0] = (uint16_t)r;
    window[1] = (uint16_t)c;
    window[2] = (uint16_t)(r + take(in) % (SIDE - r));
    window[3] = (uint16_t)(c + take(in) % (WIDE - c));
}

/* Whether its sections lie in its bytes, and it is small enough for the slow reader. */
static inline int is_readable(const archive *a) {
    return a->iid.nsegments <= MOST_SEGMENTS && a->iid.nsegments * 20 <= a->iid.iids_at &&
           a->iid.segs_nbytes <= a->nbytes - a->iid.segs_at;
}

/* The most instructions that the kernels may use. */
static inline void take_level(input *in) {
    (void)mapix_simd(take(in) % 3);
}

/* A canvas as small as it may be, so that bands are needed; and whether it is zeros again. */
static uint64_t canvas_words[MAPIX_CANVAS];

static inline mapix_canvas take_canvas(void) {
    memset(canvas_words, 0, sizeof canvas_words);
    return (mapix_canvas){canvas_words, MAPIX_CANVAS};
}

static inline int is_clean(void) {
    uint64_t any = 0;
    for (unsigned k = 0; k < MAPIX_CANVAS; k++) {
        any |= canvas_words[k];
    }
    return !any;
}

#endif
