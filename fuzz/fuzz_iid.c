/* fuzz_iid.c - archives of anything at all: every function for segments and boxes, and a reader that
 * goes pixel by pixel.
 *
 * An input is a choice, a few segments' worth of structure, and bytes that change the file made of
 * it, so that most files are nearly right. */
#include "iid_archive.h"

#include "../csrc/iid_rows.h"

/* The mask of a segment within its box; and outputs that are too small. */
static void check_own_mask(const archive *a, const mapix_map *map, uint32_t key,
                           const slow_segment *s) {
    const uint16_t box[4] = {(uint16_t)s->box[0], (uint16_t)s->box[1], (uint16_t)s->box[2],
                             (uint16_t)s->box[3]};
    const unsigned h = s->box[2] - s->box[0], w = s->box[3] - s->box[1];
    const uint64_t n = (uint64_t)h * w, offsets[2] = {0, n};
    if (s->box[2] > SIDE || s->box[3] > WIDE) {
        return;
    }
    uint8_t *mask = block(n);
    mapix_where where;
    CHECK(mapix_iid_masks(map, &a->iid, &key, box, 1, offsets, mask, n, &where) == MAPIX_OK);
    for (unsigned i = 0; i < n; i++) {
        CHECK(mask[i] == slow_has(s, s->box[0] + i / w, s->box[1] + i % w));
    }
    const uint64_t wrong[3][2] = {{1, 0}, {0, n + 1}, {1, n}};
    for (int k = 0; k < 3; k++) {
        CHECK(mapix_iid_masks(map, &a->iid, &key, box, 1, wrong[k], mask, n, &where) ==
              MAPIX_E_ARGUMENT);
    }
    uint8_t *again = block(n);
    uint16_t own[4] = {0};
    CHECK(mapix_iid_own_mask(map, &a->iid, key, own, again, n, &where) == MAPIX_OK);
    CHECK(memcmp(own, box, 8) == 0 && (!n || memcmp(again, mask, n) == 0));
    CHECK(!n || mapix_iid_own_mask(map, &a->iid, key, own, again, n - 1, &where) == MAPIX_E_SHAPE);
    free(again);
    free(mask);
}

static void check_pixels(const archive *a, input *in) {
    const mapix_map map = {.base = a->bytes, .nbytes = a->nbytes, .fd = -1};
    uint16_t window[4];
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
        uint16_t own[4];
        const int alone = mapix_iid_own_mask(&map, &a->iid, key, own, mask, 0, &where);
        CHECK(!bad || alone == status || alone == MAPIX_E_SHAPE);
        CHECK(!bad || where.record == key);
        uint32_t count = 0, want = 0, any = 0;
        const mapix_canvas rows = take_canvas();
        CHECK((mapix_iid_count(&map, &a->iid, &key, window, 1, 0, &rows, &count, &where) == 0) == !bad);
        CHECK((mapix_iid_count(&map, &a->iid, &key, window, 1, 1, &rows, &any, &where) == 0) == !bad);
        CHECK(is_clean());
        for (unsigned y = 0; !bad && y < h; y++) {
            for (unsigned x = 0; x < w; x++) {
                const int has = slow_has(&slow[key], window[0] + y, window[1] + x);
                CHECK(mask[y * w + x] == has);
                want += (uint32_t)has;
            }
        }
        CHECK(bad || (count == want && any == (want > 0)));
        free(mask);
        if (!bad) {
            check_own_mask(a, &map, key, &slow[key]);
        }
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
    mapix_iid_painting painting = {.keys = keys, .values = values, .n = n, .labels = labels};
    uint16_t *boxes = block(n * 8);
    uint32_t *scratch = block((n + 1) * 32);
    for (uint32_t k = 0; k < 4 * n; k++) {
        boxes[k] = (uint16_t)slow[k / 4].box[k % 4];
    }
    memcpy(painting.window, window, 8);
    painting.boxes = boxes, painting.depth = depth, painting.scratch = scratch;
    const uint32_t middle = window[0] + h / 2;
    int status = mapix_iid_paint(&map, &a->iid, &painting, window[0], middle, &where);
    status = status ? status : mapix_iid_paint(&map, &a->iid, &painting, middle, window[2], &where);
    CHECK(status == MAPIX_OK || first_bad);
    painting.depth = NULL; /* the same once more, where what is covered is left alone */
    int32_t *again = painting.labels = block(sizeof(int32_t) * h * w);
    memset(again, 0, sizeof(int32_t) * h * w);
    CHECK(mapix_iid_paint(&map, &a->iid, &painting, window[0], window[2], &where) == 0 || first_bad);
    CHECK(first_bad || memcmp(again, labels, sizeof(int32_t) * h * w) == 0);
    const uint64_t nwords = (w + 63) / 64;
    uint64_t *canvas = block(h * nwords * 8), *other = block(h * nwords * 8);
    uint64_t *both = block(h * nwords * 8), *rest = block(h * nwords * 8);
    memset(canvas, 0, h * nwords * 8);
    CHECK((mapix_iid_combine(&map, &a->iid, keys, n, 0, window, canvas, NULL, nwords, &where) == 0) ==
          !first_bad);
    memset(both, 0xFF, h * nwords * 8);
    memset(rest, 0xFF, h * nwords * 8);
    memset(other, 0, h * nwords * 8);
    CHECK((mapix_iid_combine(&map, &a->iid, keys, n, 1, window, both, other, nwords, &where) == 0) ==
          !first_bad);
    CHECK((mapix_iid_combine(&map, &a->iid, keys, n, 2, window, rest, NULL, nwords, &where) == 0) ==
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
            const uint64_t word = y * nwords + x / 64, bit = 63 - x % 64;
            CHECK((canvas[word] >> bit & 1) == (deep > 0));
            CHECK((both[word] >> bit & 1) == (deep == n));
            CHECK((rest[word] >> bit & 1) == (deep == 0));
        }
    }
    for (uint32_t i = 0; !first_bad && i < n; i++) {
        const uint32_t j = (i + 1) % n;
        uint32_t shared = 0, want = 0;
        const mapix_canvas rows = take_canvas();
        CHECK(mapix_iid_shared(&map, &a->iid, &i, &j, 1, &rows, &shared, &where) == MAPIX_OK);
        CHECK(is_clean());
        for (unsigned y = 0; y < SIDE; y++) {
            for (unsigned x = 0; x < WIDE; x++) {
                want += slow_has(&slow[i], y, x) && slow_has(&slow[j], y, x);
            }
        }
        CHECK(slow[i].box[2] > SIDE || slow[i].box[3] > WIDE || shared == want);
    }
    free(keys), free(values), free(labels), free(depth), free(canvas);
    free(other), free(both), free(rest);
    free(boxes), free(scratch), free(again);
}

/* All names in one call, into memory of exactly their size, and found together. */
/* A file that changes after a segment was checked, by another process: nothing outside of it is read, nothing
 * outside of what is made is written, and pixels are counted as they are set. */
static void check_changed(const archive *a, input *in) {
    const mapix_map map = {.base = a->bytes, .nbytes = a->nbytes, .fd = -1};
    const uint32_t key = take(in);
    const uint16_t everything[4] = {0, 0, UINT16_MAX, UINT16_MAX};
    checked c;
    mapix_where where;
    if (key >= a->iid.nsegments || check_segment(&map, &a->iid, key, everything, &c, &where) ||
        c.bounds[MINR] >= c.bounds[MAXR]) {
        return;
    }
    for (unsigned changes = take(in) % 4; changes; changes--) {
        a->bytes[(uint64_t)(c.segment.regions - a->bytes) + take_n(in, 2) % c.segment.regions_nbytes] = take(in);
    }
    uint64_t row_nwords;
    uint16_t band[4];
    const mapix_canvas canvas = take_canvas();
    for (uint32_t row = c.bounds[MINR]; next_band(c.bounds, &canvas, &row, band, &row_nwords);) {
        const uint64_t n = (uint64_t)(band[MAXR] - band[MINR]) * row_nwords;
        uint64_t *words = block(n * sizeof *words), found = 0;
        memset(words, 0, n * sizeof *words);
        const uint64_t added = use_canvas(&c, band, words, NULL, row_nwords, CANVAS_ADD);
        for (uint64_t k = 0; k < n; k++) {
            found += (uint64_t)__builtin_popcountll(words[k]);
        }
        CHECK(added == found && use_canvas(&c, band, words, NULL, row_nwords, CANVAS_TAKE) == found);
        (void)use_canvas(&c, band, words, NULL, row_nwords, CANVAS_CLEAR);
        free(words);
    }
    uint8_t *bits = block(iid_bitmap_nbytes(c.bounds));
    uint64_t nwords = 0;
    const iid_bitmap made = iid_flatten(&c.segment, c.bounds, bits, &nwords);
    CHECK(made.bits == bits && memcmp(made.box, c.bounds, sizeof made.box) == 0);
    free(bits);
}

static void check_all_names(const archive *a, const mapix_map *map, uint64_t seed,
                            const uint64_t *slots, uint64_t nslots, const uint32_t *next) {
    const uint64_t n = a->iid.nsegments;
    uint32_t *keys = block((n + 1) * sizeof *keys);
    for (uint32_t k = 0; k < n; k++) {
        keys[k] = (uint32_t)n - 1 - k;
    }
    keys[n] = (uint32_t)n;
    uint64_t nbytes = 0, again, *ends = block(2 * (n + 1) * sizeof *ends);
    mapix_where where;
    uint8_t nothing[1];
    const int first =
        mapix_iid_texts(map, &a->iid, keys, n, ends, nothing, 0, &nbytes, &where);
    CHECK(first == (nbytes ? MAPIX_E_SHAPE : MAPIX_OK));
    uint8_t *text = block(nbytes + 2);
    CHECK(mapix_iid_texts(map, &a->iid, keys, n, ends, text, nbytes, &again, &where) == MAPIX_OK);
    CHECK(again == nbytes && (n == 0 || ends[2 * n - 1] == nbytes));
    if (nbytes) {
        uint8_t *less = block(nbytes - 1);
        CHECK(mapix_iid_texts(map, &a->iid, keys, n, ends, less, nbytes - 1, &again, &where) ==
              MAPIX_E_SHAPE);
        CHECK(again == nbytes);
        free(less);
    }
    CHECK(mapix_iid_texts(map, &a->iid, keys, n + 1, ends, text, nbytes, &again, &where) ==
          MAPIX_E_ROW);
    CHECK(where.record == n && where.got == n && where.expected == n);
    memcpy(text + nbytes, "zz", 2); /* no name has a z */
    ends[2 * n] = nbytes + 1;
    ends[2 * n + 1] = nbytes + 2;
    int64_t *found = block((n + 1) * sizeof *found);
    CHECK(mapix_iid_find(map, &a->iid, seed, slots, nslots, text, ends, n + 1, found, &where) ==
          MAPIX_OK);
    CHECK(found[n] == -1);
    for (uint64_t k = 0; k < n; k++) {
        uint32_t walk = (uint32_t)found[k];
        CHECK(found[k] >= 0 && walk <= keys[k]);
        while (walk != keys[k] && walk != UINT32_MAX) {
            walk = next[walk];
        }
        CHECK(walk == keys[k]);
    }
    ends[2 * n + 1] = nbytes; /* ends that go back */
    CHECK(mapix_iid_find(map, &a->iid, seed, slots, nslots, text, ends, n + 1, found, &where) ==
          MAPIX_E_ARGUMENT);
    free(keys), free(ends), free(text), free(found);
}

/* Of a table of another file: no access outside, and keys that there are. */
static void check_other_slots(const archive *a, const mapix_map *map, uint64_t first, uint64_t seed,
                              uint64_t *slots) {
    const uint8_t text[] = "a";
    const uint64_t ends[2] = {0, 1};
    uint64_t hash;
    CHECK(mapix_name_hashes(text, ends, 1, MAPIX_NAME, seed, &hash) == MAPIX_OK);
    for (uint64_t k = 0; k < 127; k++) {
        slots[k] = (hash >> 32 | 1) << 32 | (first + k) % (a->iid.iids_nbytes + 9);
    }
    slots[127] = 0;
    int64_t found = -2;
    mapix_where where;
    const int status = mapix_iid_find(map, &a->iid, seed, slots, 128, text, ends, 1, &found, &where);
    CHECK(status == MAPIX_OK && found >= -1 && found < (int64_t)a->iid.nsegments);
}

static void check_names(const archive *a, input *in) {
    const mapix_map map = {.base = a->bytes, .nbytes = a->nbytes, .fd = -1};
    const uint64_t n = a->iid.nsegments, seed = take_n(in, 8);
    uint64_t slots[128] = {0}, totals[3];
    uint32_t next[MOST_SEGMENTS + 1];
    uint16_t *boxes = block(n * 8);
    uint32_t *areas = block(n * 4);
    mapix_where where;
    slow_segment slow;
    int bad = 0;
    for (uint32_t key = 0; key < n && !bad; key++) {
        bad = slow_read_segment(a, key, &slow) == 1;
    }
    CHECK((mapix_iid_columns(&map, &a->iid, 0, n, boxes, areas, totals, &where) == 0) == !bad);
    for (uint32_t key = 0; key < n && !bad; key++) {
        (void)slow_read_segment(a, key, &slow);
        CHECK(areas[key] == slow.area && boxes[4 * key + 3] == slow.box[3]);
    }
    free(boxes), free(areas);
    const int built = mapix_iid_names(&map, &a->iid, seed, slots, 128, next, &where);
    for (uint32_t key = 0; key < n; key++) {
        uint64_t ends[2], nbytes;
        uint8_t text[512];
        const int told = mapix_iid_texts(&map, &a->iid, &key, 1, ends, text, sizeof text, &nbytes,
                                         &where);
        CHECK(built || told == MAPIX_OK);
        if (built) {
            continue;
        }
        for (uint32_t part = MAPIX_NAME; part <= MAPIX_NAME_DOMAIN; part++) {
            uint64_t of_file, of_text;
            CHECK(mapix_iid_hashes(&map, &a->iid, key, 1, part, seed, &of_file, &where) == 0);
            CHECK(mapix_name_hashes(text, ends, 1, part, seed, &of_text) == 0);
            CHECK(of_file == of_text);
        }
        int64_t found = -2;
        CHECK(mapix_iid_find(&map, &a->iid, seed, slots, 128, text, ends, 1, &found, &where) == 0);
        CHECK(found >= 0 && found <= (int64_t)key);
        uint32_t walk = (uint32_t)found;
        while (walk != key && walk != UINT32_MAX) { /* the chain of a name comes by all its keys */
            CHECK(next[walk] > walk);
            walk = next[walk];
        }
        CHECK(walk == key);
    }
    if (!built) {
        check_all_names(a, &map, seed, slots, 128, next);
    }
    check_other_slots(a, &map, take_n(in, 4), seed, slots);
}

static int boxes_meet(const uint16_t *a, const uint16_t *b) {
    return a[0] < a[2] && a[1] < a[3] && b[0] < b[2] && b[1] < b[3] && a[0] < b[2] &&
           b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}

/* Several windows, in calls with small outputs. */
static void check_many(const uint16_t *nodes, const uint32_t *order, unsigned n,
                       const uint16_t *boxes, input *in) {
    enum { WINDOWS = 3 };
    uint16_t windows[4 * WINDOWS];
    uint32_t counts[WINDOWS];
    for (unsigned k = 0; k < WINDOWS; k++) {
        take_window(in, windows + 4 * k);
    }
    uint64_t room = take(in) % 32, at = 0, nfound;
    while (at < WINDOWS) {
        uint32_t *found = block(room * sizeof *found), *next = found;
        const uint64_t before = at;
        CHECK(mapix_tree_search_many(nodes, order, n, windows, WINDOWS, &at, found, room, &nfound,
                                     counts) == MAPIX_OK);
        CHECK(nfound <= room);
        for (uint64_t k = before; k < at; k++) {
            uint32_t want = 0;
            for (uint32_t i = 0; i < n; i++) {
                if (boxes_meet(boxes + 4 * i, windows + 4 * k)) {
                    CHECK(want < counts[k] && next[want] == i);
                    want++;
                }
            }
            CHECK(counts[k] == want);
            next += want;
        }
        CHECK(next == found + nfound);
        free(found);
        room = at == before ? 2 * room + 1 : room;
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
    check_many(nodes, order, n, boxes, in);
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
    enum { MOST_H = 12, MOST_W = 116 };
    const unsigned h = take(in) % MOST_H, code = take(in), values = 2 + take(in) % 2;
    const unsigned w = code < 200 ? code % 20 : code - 200 + 60; /* some wider than a word */
    uint8_t *mask = block((uint64_t)h * w), again[MOST_H * MOST_W] = {0};
    const unsigned wide = take(in) % 2;
    uint32_t *numbers = block((uint64_t)h * w * 4), area, nregions, pixels = 0;
    for (unsigned k = 0; k < h * w; k++) {
        mask[k] = take(in) % values;
        numbers[k] = (uint32_t)mask[k] << 8; /* none of these is 0 as a byte but 0 */
    }
    uint64_t nbytes, nruns = 0;
    uint8_t out[16 * MOST_H * MOST_W];
    const void *source = wide ? (const void *)numbers : mask;
    CHECK(mapix_iid_runs(source, wide, h, w, &nruns) == MAPIX_OK && nruns <= h * w);
    const uint64_t nscratch = mapix_iid_scratch(nruns);
    uint32_t *scratch = block(nscratch * 4);
    CHECK(mapix_iid_pack(source, wide, h, w, 3, 5, scratch, nscratch, out, sizeof out, &nbytes, &area,
                         &nregions) == MAPIX_OK);
    const uint16_t box[4] = {3, 5, (uint16_t)(3 + h), (uint16_t)(5 + w)};
    uint8_t *exact = block(nbytes);
    memcpy(exact, out, nbytes);
    mapix_where where;
    CHECK(mapix_iid_regions(exact, nbytes, box, &where) == MAPIX_OK);
    CHECK(!nbytes || mapix_iid_regions(exact, nbytes - 1, box, &where) == MAPIX_E_IID_REGION);
    free(exact);
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
    CHECK(!nbytes || mapix_iid_pack(source, wide, h, w, 3, 5, scratch, nscratch, out, nbytes - 1, &nbytes,
                                    &area, &nregions) == MAPIX_E_ARGUMENT);
    free(mask), free(numbers), free(scratch);
}

enum { NCALLS = 15 };

/* Every function for archives, with nothing but the archive to be wrong. */
static int call(int which, const mapix_map *map, const mapix_iid *iid) {
    const uint32_t key = 0;
    const uint16_t window[4] = {0, 0, 8, 8};
    const uint64_t offsets[2] = {0, 64};
    const mapix_parts parts = {NULL, NULL, 0};
    static uint64_t zeros[MAPIX_CANVAS];
    const mapix_canvas canvas = {zeros, MAPIX_CANVAS};
    const mapix_iid_join join = {.rows = canvas};
    uint8_t bytes[64] = {0};
    uint64_t words[8] = {0}, at = 0, n = 0, slots[4] = {0}, ends[2] = {0, 0}, rows[8] = {0};
    uint32_t numbers[64];
    uint16_t boxes[4], scratch[64 * 9];
    int32_t labels[64];
    int64_t keys[1];
    mapix_place places[1];
    mapix_iid_pairs pairs = {.pairs = numbers, .capacity = 1};
    mapix_where where;
    const mapix_iid_painting painting = {.keys = &key, .values = labels, .boxes = window, .n = 0,
                                         .window = {0, 0, 8, 8}, .labels = labels, .scratch = numbers};
    switch (which) {
    case 0: return mapix_iid_columns(map, iid, 0, 0, boxes, numbers, words, &where);
    case 1: return mapix_iid_masks(map, iid, &key, window, 0, offsets, bytes, 64, &where);
    case 2: return mapix_iid_parts(map, iid, &at, 0, boxes, words, 1, &n, &where);
    case 3: return mapix_iid_hits(map, iid, &parts, window, 0, &at, numbers, 1, &n, numbers, &where);
    case 4: return mapix_iid_count(map, iid, &key, window, 0, 0, &canvas, numbers, &where);
    case 5: return mapix_iid_shared(map, iid, &key, &key, 0, &canvas, numbers, &where);
    case 6: return mapix_iid_places(map, iid, &key, 0, places, &where);
    case 7: return mapix_iid_overlaps(map, iid, &join, &pairs, &where);
    case 8: return mapix_iid_paint(map, iid, &painting, 0, 8, &where);
    case 9: return mapix_iid_combine(map, iid, &key, 0, 0, window, words, NULL, 1, &where);
    case 10: return mapix_iid_texts(map, iid, &key, 0, ends, bytes, 64, &n, &where);
    case 11: return mapix_iid_names(map, iid, 0, slots, 4, numbers, &where);
    case 12: return mapix_iid_find(map, iid, 0, slots, 4, bytes, ends, 0, keys, &where);
    case 13: return mapix_iid_hashes(map, iid, 0, 0, MAPIX_NAME, 0, words, &where);
    default:
        return mapix_iid_rle(map, iid, &key, 0, 8, 8, 0, scratch, rows, bytes, 64, words, &at, &where);
    }
}

/* Sections that do not lie in the file, each by itself: every function reports it. */
static void check_sections(void) {
    static const uint8_t file[64];
    const mapix_map map = {.base = file, .nbytes = sizeof file, .fd = -1};
    const uint64_t all = sizeof file;
    const mapix_iid good = {0, all, all, 0, 0, all};
    mapix_iid bad[6] = {good, good, good, good, good, good};
    bad[0].lut_at = all + 1;
    bad[1].nsegments = 1, bad[1].lut_at = all - 19;
    bad[2].iids_at = all + 1;
    bad[3].iids_nbytes = 1;
    bad[4].segs_at = all + 1;
    bad[5].segs_nbytes = all + 1;
    for (int which = 0; which < NCALLS; which++) {
        CHECK(call(which, &map, &good) == MAPIX_OK);
        for (int k = 0; k < 6; k++) {
            CHECK(call(which, &map, &bad[k]) == MAPIX_E_ARGUMENT);
        }
    }
}

/* The caller's other mistakes. */
static void check_mistakes(void) {
    static const uint8_t file[64];
    const mapix_map map = {.base = file, .nbytes = sizeof file, .fd = -1};
    const mapix_iid none = {0, 0, 0, 0, 0, 0};
    const uint32_t key = 0;
    const uint16_t window[4] = {0, 0, 8, 8}, upside_down[4] = {8, 0, 0, 8}, mirrored[4] = {0, 8, 8, 0};
    const uint64_t offsets[2] = {0, 64};
    uint8_t bytes[64] = {0};
    uint64_t words[16] = {0}, n, at = 1;
    uint32_t numbers[64], area, nregions;
    uint16_t boxes[4], scratch[64 * 9];
    mapix_where where;
    static uint64_t zeros[MAPIX_CANVAS];
    const mapix_canvas canvas = {zeros, MAPIX_CANVAS}, small = {zeros, MAPIX_CANVAS - 1};
    const int wrong = MAPIX_E_ARGUMENT;
    CHECK(mapix_iid_columns(&map, &none, 1, 0, NULL, NULL, words, &where) == wrong);
    CHECK(mapix_iid_columns(&map, &none, 0, 1, NULL, NULL, words, &where) == wrong);
    CHECK(mapix_iid_columns(&map, &none, 0, 0, boxes, NULL, words, &where) == wrong);
    const mapix_map vast = {.base = file, .nbytes = UINT64_C(1) << 60, .fd = -1}; /* of which nothing is read */
    const mapix_iid most = {.nsegments = UINT64_C(1) << 32}, wide = {.segs_nbytes = UINT64_C(1) << 32};
    CHECK(mapix_iid_columns(&vast, &most, 0, 0, NULL, NULL, words, &where) == wrong);
    CHECK(mapix_iid_own_mask(&vast, &most, key, boxes, bytes, 64, &where) == wrong);
    at = 0;
    CHECK(mapix_iid_parts(&vast, &wide, &at, 0, boxes, words, 1, &n, &where) == wrong);
    at = 1;
    CHECK(mapix_iid_masks(&map, &none, &key, upside_down, 1, offsets, bytes, 64, &where) == wrong);
    CHECK(mapix_iid_count(&map, &none, &key, mirrored, 1, 0, &canvas, numbers, &where) == wrong);
    CHECK(mapix_iid_masks(&map, &none, &key, window, 1, offsets, bytes, 64, &where) == MAPIX_E_ROW);
    CHECK(mapix_iid_own_mask(&map, &none, key, boxes, bytes, 64, &where) == MAPIX_E_ROW);
    CHECK(mapix_iid_shared(&map, &none, &key, &key, 1, &canvas, numbers, &where) == MAPIX_E_ROW);
    CHECK(mapix_iid_combine(&map, &none, &key, 0, 3, window, words, NULL, 1, &where) == wrong);
    CHECK(mapix_iid_combine(&map, &none, &key, 0, 0, upside_down, words, NULL, 1, &where) == wrong);
    CHECK(mapix_iid_combine(&map, &none, &key, 0, 0, window, words, NULL, 2, &where) == wrong);
    CHECK(mapix_iid_parts(&map, &none, &at, 1, boxes, words, 1, &n, &where) == wrong);
    const mapix_parts parts = {NULL, NULL, 0};
    CHECK(mapix_iid_hits(&map, &none, &parts, window, 0, &at, numbers, 1, &n, numbers, &where) ==
          wrong);
    mapix_iid_painting p = {.keys = &key, .boxes = window, .window = {2, 0, 6, 8}, .scratch = numbers};
    CHECK(mapix_iid_paint(&map, &none, &p, 1, 6, &where) == wrong);
    CHECK(mapix_iid_paint(&map, &none, &p, 2, 7, &where) == wrong);
    CHECK(mapix_iid_paint(&map, &none, &p, 5, 4, &where) == wrong);
    p.scratch = (uint32_t *)(void *)((uint8_t *)numbers + 1);
    CHECK(mapix_iid_paint(&map, &none, &p, 2, 6, &where) == wrong);
    p.scratch = numbers, p.n = (uint64_t)UINT32_MAX + 1;
    CHECK(mapix_iid_paint(&map, &none, &p, 2, 6, &where) == wrong);
    p.n = 0, p.window[2] = 1;
    CHECK(mapix_iid_paint(&map, &none, &p, 2, 2, &where) == wrong);
    mapix_iid_join join = {.n = (uint64_t)UINT32_MAX + 1, .rows = canvas};
    mapix_iid_pairs pairs = {.pairs = numbers, .capacity = 1};
    CHECK(mapix_iid_overlaps(&map, &none, &join, &pairs, &where) == wrong);
    join.n = 0, pairs.n = 2;
    CHECK(mapix_iid_overlaps(&map, &none, &join, &pairs, &where) == wrong);
    join.rows = small, pairs.n = 0;
    CHECK(mapix_iid_overlaps(&map, &none, &join, &pairs, &where) == wrong);
    join.rows = canvas, join.n = 1, join.keys = &key;
    const mapix_part part = {&map, NULL, 1};
    const mapix_iid beyond = {0, 0, sizeof file + 1, 0, 0, 0};
    const uint32_t first = 0, second = 1;
    join.parts = &part, join.iids = &none, join.which = &first, join.nparts = 1;
    CHECK(mapix_iid_overlaps(NULL, NULL, &join, &pairs, &where) == wrong); /* a key before its file */
    join.which = &second;
    CHECK(mapix_iid_overlaps(NULL, NULL, &join, &pairs, &where) == wrong);
    join.n = 0, join.iids = &beyond;
    CHECK(mapix_iid_overlaps(NULL, NULL, &join, &pairs, &where) == wrong);
    CHECK(mapix_iid_count(&map, &none, &key, window, 0, 0, &small, numbers, &where) == wrong);
    CHECK(mapix_iid_shared(&map, &none, &key, &key, 0, &small, numbers, &where) == wrong);
    CHECK(mapix_iid_names(&map, &none, 0, words, 3, numbers, &where) == wrong);
    CHECK(mapix_iid_names(&map, &none, 0, words, 0, numbers, &where) == wrong);
    CHECK(mapix_iid_hashes(&map, &none, 0, 1, MAPIX_NAME, 0, words, &where) == wrong);
    CHECK(mapix_iid_hashes(&map, &none, 1, 0, MAPIX_NAME, 0, words, &where) == wrong);
    CHECK(mapix_iid_hashes(&map, &none, 0, 0, MAPIX_NAME_DOMAIN + 1, 0, words, &where) == wrong);
    const uint64_t descending[2] = {2, 1};
    CHECK(mapix_name_hashes(bytes, descending, 1, MAPIX_NAME, 0, words) == wrong);
    CHECK(mapix_name_hashes(bytes, offsets, 1, MAPIX_NAME_DOMAIN + 1, 0, words) == wrong);
    uint64_t nruns;
    CHECK(mapix_iid_runs(bytes, 0, 65536, 1, &nruns) == wrong);
    CHECK(mapix_iid_runs(bytes, 0, 1, 65536, &nruns) == wrong);
    bytes[0] = 1; /* a run, and no memory for it */
    CHECK(mapix_iid_pack(bytes, 0, 8, 8, 0, 0, numbers, 0, bytes, 64, &n, &area, &nregions) == wrong);
    CHECK(mapix_iid_combine(&map, &none, &key, 0, 1, window, words, NULL, 1, &where) == wrong);
    const uint64_t big[2][2] = {{65536, 8}, {8, 65536}};
    for (int k = 0; k < 2; k++) {
        const uint32_t h = (uint32_t)big[k][0], w = (uint32_t)big[k][1];
        uint64_t done = 0;
        CHECK(mapix_iid_rle(&map, &none, &key, 0, h, w, 0, scratch, words, bytes, 64, words, &done,
                            &where) == wrong);
        CHECK(mapix_iid_pack(bytes, 0, h, w, 0, 0, numbers, 64, bytes, 64, &n, &area, &nregions) == wrong);
        const uint32_t all = h * w;
        CHECK(mapix_rle_box(numbers, 0, h, w, boxes) == wrong);
        CHECK(mapix_rle_box(&all, 1, h, w, boxes) == wrong);
    }
    CHECK(mapix_iid_pack(bytes, 0, 8, 8, 65535, 0, numbers, 64, bytes, 64, &n, &area, &nregions) == wrong);
    CHECK(mapix_iid_pack(bytes, 0, 8, 8, 0, 65535, numbers, 64, bytes, 64, &n, &area, &nregions) == wrong);
    at = 1;
    CHECK(mapix_iid_rle(&map, &none, &key, 0, 8, 8, 0, scratch, words, bytes, 64, words, &at, &where) ==
          wrong);
    CHECK(mapix_tree_build(NULL, (uint64_t)UINT32_MAX + 1, NULL, NULL, NULL) == wrong);
    const uint32_t zeros_ones[4] = {3, 2, 59, 0}; /* an image of 8 x 8, a column of two from row 3 */
    CHECK(mapix_rle_box(zeros_ones, 3, 8, 8, boxes) == MAPIX_OK);
    CHECK(boxes[0] == 3 && boxes[1] == 0 && boxes[2] == 5 && boxes[3] == 1);
    CHECK(mapix_rle_mask(zeros_ones, 3, 0, boxes, bytes) == wrong);
    for (int side = 0; side < 4; side++) {
        uint16_t small[4];
        memcpy(small, boxes, sizeof small);
        small[side] = (uint16_t)(small[side] + (side < 2 ? 1 : -1));
        CHECK(mapix_rle_mask(zeros_ones, 3, 8, small, bytes) == wrong);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    input in = {data, nbytes};
    const unsigned which = take(&in) % 4;
    take_level(&in);
    if (which == 0) {
        check_tree(&in);
    } else if (which == 1) {
        check_pack(&in);
        ONCE(check_sections());
        ONCE(check_mistakes());
    } else {
        uint8_t room[MOST_FILE];
        archive a = take_archive(&in, room);
        if (is_readable(&a)) {
            which == 2 ? check_pixels(&a, &in) : check_names(&a, &in);
            check_changed(&a, &in);
        } else { /* sections that do not lie in the file */
            const mapix_map map = {.base = a.bytes, .nbytes = a.nbytes, .fd = -1};
            mapix_where where;
            uint64_t totals[3];
            const int status = mapix_iid_columns(&map, &a.iid, 0, a.iid.nsegments, NULL, NULL,
                                                 totals, &where);
            CHECK(a.iid.segs_nbytes <= a.nbytes - a.iid.segs_at || status == MAPIX_E_ARGUMENT);
        }
        free(a.bytes);
    }
    return 0;
}
