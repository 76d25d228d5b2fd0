/* fuzz_iid.c - archives of anything at all: every function for segments and boxes, and a reader that
 * goes pixel by pixel.
 *
 * An input is a choice, a few segments' worth of structure, and bytes that change the file made of
 * it, so that most files are nearly right. */
#include "fuzz.h"

enum { MOST_SEGMENTS = 6, SIDE = 40, MOST_FILE = 8192 };

typedef struct {
    uint8_t *bytes;
    uint64_t nbytes;
    mapix_iid iid;
} archive;

static void put_32(draft *d, uint64_t value) {
    for (unsigned k = 0; k < 4; k++) {
        put(d, value >> (8 * k) & 255);
    }
}

static uint32_t get_32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Lookup rows, names and segments one behind the other, then some bytes changed. */
static archive take_archive(input *in, uint8_t *room) {
    const unsigned n = take(in) % (MOST_SEGMENTS + 1);
    draft names = {.bytes = room, .room = MOST_FILE / 4};
    draft segs = {.bytes = room + MOST_FILE / 4, .room = MOST_FILE / 2};
    draft lut = {.bytes = room + MOST_FILE * 3 / 4, .room = MOST_FILE / 4};
    for (unsigned key = 0; key < n; key++) {
        const unsigned nd = take(in) % 4, ni = take(in) % 4;
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
        const unsigned r = take(in) % 8, c = take(in) % 8, h = take(in) % 12, w = take(in) % 30;
        put_32(&segs, key);
        const unsigned box[4] = {r, c, r + h, c + w};
        for (unsigned k = 0; k < 4; k++) {
            put_16(&segs, box[k]);
        }
        put_32(&segs, take(in));
        for (unsigned regions = take(in) % 3; regions; regions--) {
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
    uint8_t pixels[SIDE + 8][SIDE + 8]; /* of the image's corner, in which all segments lie */
} slow_segment;

/* 0: fine.  1: its row or head is bad.  2: a region is. */
static int slow_read_segment(const archive *a, uint32_t key, slow_segment *s) {
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
            if (y < SIDE && x < SIDE) {
                s->pixels[y][x] |= p[12 + i / 8] >> (7 - i % 8) & 1;
            }
        }
        p += length;
    }
    return 0;
}

static int slow_has(const slow_segment *s, unsigned y, unsigned x) {
    return y < SIDE && x < SIDE && s->pixels[y][x];
}

static void take_window(input *in, uint16_t window[4]) {
    const unsigned r = take(in) % (SIDE - 10), c = take(in) % (SIDE - 10);
    window[0] = (uint16_t)r;
    window[1] = (uint16_t)c;
    window[2] = (uint16_t)(r + take(in) % (SIDE - r));
    window[3] = (uint16_t)(c + take(in) % (SIDE - c));
}

static void check_pixels(const archive *a, input *in) {
    const mapix_map map = {.base = a->bytes, .nbytes = a->nbytes, .fd = -1};
    uint16_t window[4], all[4] = {0, 0, SIDE, SIDE};
    take_window(in, window);
    const unsigned h = window[2] - window[0], w = window[3] - window[1];
    static slow_segment slow[MOST_SEGMENTS];
    mapix_where where;
    int first_bad = 0;
    for (uint32_t key = 0; key < a->iid.nsegments; key++) {
        const int bad = slow_read_segment(a, key, &slow[key]);
        first_bad = first_bad ? first_bad : bad;
        const uint64_t offsets[2] = {0, (uint64_t)h * w};
        uint8_t *mask = block((uint64_t)h * w);
        const int status = mapix_iid_masks(&map, &a->iid, &key, window, 1, offsets, mask,
                                           (uint64_t)h * w, &where);
        CHECK((status == MAPIX_OK) == !bad);
        CHECK(!bad || where.record == key);
        uint32_t count = 0, want = 0, any = 0;
        CHECK((mapix_iid_count(&map, &a->iid, &key, window, 1, 0, &count, &where) == 0) == !bad);
        CHECK((mapix_iid_count(&map, &a->iid, &key, window, 1, 1, &any, &where) == 0) == !bad);
        for (unsigned y = 0; !bad && y < h; y++) {
            for (unsigned x = 0; x < w; x++) {
                const int has = slow_has(&slow[key], window[0] + y, window[1] + x);
                CHECK(mask[y * w + x] == has);
                want += (uint32_t)has;
            }
        }
        CHECK(bad || (count == want && any == (want > 0)));
        free(mask);
    }
    const uint32_t n = (uint32_t)a->iid.nsegments;
    uint32_t *keys = block(n * sizeof *keys);
    int32_t *values = block(n * sizeof *values), *labels = block(sizeof(int32_t) * h * w);
    uint16_t *depth = block(sizeof(uint16_t) * h * w);
    for (uint32_t k = 0; k < n; k++) {
        keys[k] = k;
        values[k] = (int32_t)k + 1;
    }
    memset(labels, 0, sizeof(int32_t) * h * w);
    memset(depth, 0, sizeof(uint16_t) * h * w);
    const int status =
        mapix_iid_paint(&map, &a->iid, keys, values, n, window, labels, depth, &where);
    CHECK((status == MAPIX_OK) == !first_bad);
    const uint64_t nwords = (w + 63) / 64;
    uint64_t *canvas = block(h * nwords * 8);
    memset(canvas, 0, h * nwords * 8);
    CHECK((mapix_iid_combine(&map, &a->iid, keys, n, 0, window, canvas, nwords, &where) == 0) ==
          !first_bad);
    for (unsigned y = 0; !first_bad && y < h; y++) {
        for (unsigned x = 0; x < w; x++) {
            int32_t top = 0;
            uint16_t deep = 0;
            for (uint32_t k = 0; k < n; k++) {
                const int has = slow_has(&slow[k], window[0] + y, window[1] + x);
                top = has ? (int32_t)k + 1 : top;
                deep = (uint16_t)(deep + has);
            }
            CHECK(labels[y * w + x] == top && depth[y * w + x] == deep);
            CHECK((canvas[y * nwords + x / 64] >> (63 - x % 64) & 1) == (deep > 0));
        }
    }
    for (uint32_t i = 0; !first_bad && i < n; i++) {
        const uint32_t j = (i + 1) % n;
        uint32_t shared = 0, want = 0;
        CHECK(mapix_iid_shared(&map, &a->iid, &i, &j, 1, &shared, &where) == MAPIX_OK);
        for (unsigned y = 0; y < SIDE; y++) {
            for (unsigned x = 0; x < SIDE; x++) {
                want += slow_has(&slow[i], y, x) && slow_has(&slow[j], y, x);
            }
        }
        CHECK(slow[i].box[2] > SIDE || slow[i].box[3] > SIDE || shared == want);
    }
    (void)all;
    free(keys), free(values), free(labels), free(depth), free(canvas);
}

static void check_names(const archive *a, input *in) {
    const mapix_map map = {.base = a->bytes, .nbytes = a->nbytes, .fd = -1};
    const uint64_t n = a->iid.nsegments, seed = take_n(in, 8);
    uint64_t slots[64] = {0}, swapped;
    uint32_t next[MOST_SEGMENTS + 1];
    uint16_t *boxes = block(n * 8);
    uint32_t *areas = block(n * 4);
    mapix_where where;
    slow_segment slow;
    int bad = 0;
    for (uint32_t key = 0; key < n && !bad; key++) {
        bad = slow_read_segment(a, key, &slow) == 1;
    }
    CHECK((mapix_iid_columns(&map, &a->iid, 0, n, boxes, areas, &swapped, &where) == 0) == !bad);
    for (uint32_t key = 0; key < n && !bad; key++) {
        (void)slow_read_segment(a, key, &slow);
        CHECK(areas[key] == slow.area && boxes[4 * key + 3] == slow.box[3]);
    }
    free(boxes), free(areas);
    const int built = mapix_iid_names(&map, &a->iid, seed, slots, 64, next, &where);
    for (uint32_t key = 0; key < n; key++) {
        uint64_t ends[2], nbytes;
        uint8_t text[512];
        const int told = mapix_iid_texts(&map, &a->iid, &key, 1, ends, text, sizeof text, &nbytes,
                                         &where);
        CHECK(built || told == MAPIX_OK);
        if (built) {
            continue;
        }
        int64_t found = -2;
        CHECK(mapix_iid_find(&map, &a->iid, seed, slots, 64, text, ends, 1, &found, &where) == 0);
        CHECK(found >= 0 && found <= (int64_t)key);
        uint32_t walk = (uint32_t)found;
        while (walk != key && walk != UINT32_MAX) { /* the chain of a name comes by all its keys */
            CHECK(next[walk] > walk);
            walk = next[walk];
        }
        CHECK(walk == key);
    }
}

static void check_tree(input *in) {
    const unsigned n = take(in) % 80;
    uint16_t *boxes = block(n * 8UL), window[4];
    for (unsigned k = 0; k < n; k++) {
        take_window(in, boxes + 4 * k);
    }
    take_window(in, window);
    const uint64_t nnodes = mapix_tree_nodes(n);
    uint16_t *nodes = block(nnodes * 128);
    uint32_t *order = block(n * 4UL), *found = block(n * 4UL);
    uint64_t *scratch = block(n * 16UL), nfound = 0;
    CHECK(mapix_tree_build(boxes, n, nodes, order, scratch) == MAPIX_OK);
    CHECK(mapix_tree_search(nodes, order, n, window, found, n, &nfound) == MAPIX_OK);
    unsigned want = 0;
    for (unsigned k = 0; k < n; k++) {
        const uint16_t *b = boxes + 4 * k;
        const int meets = b[0] < b[2] && b[1] < b[3] && window[0] < window[2] &&
                          window[1] < window[3] && b[0] < window[2] && window[0] < b[2] &&
                          b[1] < window[3] && window[1] < b[3];
        int there = 0;
        for (uint64_t i = 0; i < nfound; i++) {
            there += found[i] == k;
        }
        CHECK(there == meets);
        want += (unsigned)meets;
    }
    CHECK(nfound == want);
    for (unsigned lies = take(in) % 3; lies && nnodes; lies--) { /* a tree that lies: numbers stay below n */
        nodes[take_n(in, 2) % (nnodes * 64)] = (uint16_t)take_n(in, 2);
    }
    CHECK(mapix_tree_search(nodes, order, n, window, found, n, &nfound) == MAPIX_OK);
    for (uint64_t i = 0; i < nfound && i < n; i++) {
        CHECK(found[i] < n);
    }
    free(boxes), free(nodes), free(order), free(found), free(scratch);
}

/* A mask packed, and its regions read again: the same pixels, each once. */
static void check_pack(input *in) {
    const unsigned h = take(in) % 12, w = take(in) % 20, values = 2 + take(in) % 2;
    uint8_t *mask = block((uint64_t)h * w), again[12 * 20] = {0};
    uint32_t *scratch = block(mapix_iid_scratch(h, w) * 4), area, nregions, pixels = 0;
    for (unsigned k = 0; k < h * w; k++) {
        mask[k] = take(in) % values;
    }
    uint64_t nbytes;
    uint8_t out[8192];
    CHECK(mapix_iid_pack(mask, h, w, 3, 5, scratch, out, sizeof out, &nbytes, &area, &nregions) == 0);
    unsigned seen = 0;
    for (uint64_t at = 0; at < nbytes; seen++) {
        const uint8_t *p = out + at;
        const unsigned r = p[4] - 3u, c = p[6] - 5u, rh = p[8] - 3u - r, rw = p[10] - 5u - c;
        CHECK(r + rh <= h && c + rw <= w && get_32(p) == 12 + (rh * rw + 7) / 8);
        unsigned value = 0;
        for (unsigned i = 0; i < rh * rw; i++) {
            if (p[12 + i / 8] >> (7 - i % 8) & 1) {
                const unsigned place = (r + i / rw) * w + c + i % rw;
                value = value ? value : mask[place];
                CHECK(mask[place] == value && !again[place]);
                again[place] = 1;
                pixels++;
            }
        }
        at += get_32(p);
    }
    for (unsigned k = 0; k < h * w; k++) {
        CHECK(again[k] == (mask[k] != 0));
    }
    CHECK(seen == nregions && pixels == area);
    CHECK(!nbytes || mapix_iid_pack(mask, h, w, 3, 5, scratch, out, nbytes - 1, &nbytes, &area,
                                    &nregions) == MAPIX_E_ARGUMENT);
    free(mask), free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    input in = {data, nbytes};
    const unsigned which = take(&in) % 4;
    if (which == 0) {
        check_tree(&in);
    } else if (which == 1) {
        check_pack(&in);
    } else {
        uint8_t room[MOST_FILE];
        archive a = take_archive(&in, room);
        if (a.iid.nsegments <= MOST_SEGMENTS && a.iid.nsegments * 20 <= a.iid.iids_at &&
            a.iid.segs_nbytes <= a.nbytes - a.iid.segs_at) {
            which == 2 ? check_pixels(&a, &in) : check_names(&a, &in);
        } else { /* sections that do not lie in the file */
            const mapix_map map = {.base = a.bytes, .nbytes = a.nbytes, .fd = -1};
            mapix_where where;
            uint64_t swapped;
            const int status = mapix_iid_columns(&map, &a.iid, 0, a.iid.nsegments, NULL, NULL,
                                                 &swapped, &where);
            CHECK(a.iid.segs_nbytes <= a.nbytes - a.iid.segs_at || status == MAPIX_E_ARGUMENT);
        }
        free(a.bytes);
    }
    return 0;
}
