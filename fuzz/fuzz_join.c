/* fuzz_join.c - questions about many segments of an archive at once: which are in a window, which share
 * pixels, and COCO's run lengths; beside a reader that goes pixel by pixel. */
#include "iid_archive.h"

enum { MOST_PARTS = 32 };

typedef struct {
    const archive *a;
    mapix_map map;
    int bad; /* whether any segment is */
    slow_segment slow[MOST_SEGMENTS];
} reader;

static void read_all(reader *r, const archive *a) {
    r->a = a;
    r->map = (mapix_map){.base = a->bytes, .nbytes = a->nbytes, .fd = -1};
    r->bad = 0;
    for (uint32_t key = 0; key < a->iid.nsegments; key++) {
        r->bad |= slow_read_segment(a, key, &r->slow[key]);
    }
}

static int has_any(const slow_segment *s, const uint16_t window[4]) {
    int found = 0;
    for (unsigned y = window[0]; y < window[2]; y++) {
        for (unsigned x = window[1]; x < window[3]; x++) {
            found |= slow_has(s, y, x);
        }
    }
    return found;
}

/* All windows, in calls with small outputs. */
static void ask_windows(const reader *r, const mapix_parts *parts, input *in, int honest) {
    const unsigned n = 1 + take(in) % 3, least = take(in) % 4;
    uint16_t *windows = block(n * 8);
    uint32_t *counts = block(n * 4);
    for (unsigned k = 0; k < n; k++) {
        take_window(in, windows + 4 * k);
    }
    mapix_where where;
    uint64_t at = 0, room = least, nfound;
    while (at < n) {
        uint32_t *found = block(room * 4), *next = found;
        const uint64_t before = at;
        CHECK(mapix_iid_hits(&r->map, &r->a->iid, parts, windows, n, &at, found, room, &nfound,
                             counts, &where) == MAPIX_OK);
        CHECK(nfound <= room && at <= n && at >= before);
        for (uint64_t k = before; k < at; k++) {
            for (uint32_t key = 0; honest && key < r->a->iid.nsegments; key++) {
                if (has_any(&r->slow[key], windows + 4 * k)) {
                    CHECK(next < found + nfound && *next == key);
                    next++;
                }
            }
            next += honest ? 0 : counts[k];
        }
        CHECK(next == found + nfound);
        free(found);
        room = at == before ? 2 * room + 1 : room;
        CHECK(room < 4096);
    }
    free(windows), free(counts);
}

static void check_hits(const reader *r, input *in) {
    uint16_t *boxes = block(MOST_PARTS * 8);
    uint64_t leaves[MOST_PARTS], key = 0, n = 0, more;
    mapix_where where;
    int status = MAPIX_OK;
    const uint64_t all = r->a->iid.nsegments, step = 1 + take(in) % 4;
    while (!status && key < all && n + step <= MOST_PARTS) {
        status = mapix_iid_parts(&r->map, &r->a->iid, &key, all, boxes + 4 * n, leaves + n, step,
                                 &more, &where);
        CHECK(more <= step);
        n += more;
        if (!more) {
            break;
        }
    }
    CHECK(status == MAPIX_OK || r->bad);
    if (status == MAPIX_OK && key == all) {
        uint16_t *nodes = block(mapix_tree_nodes(n) * 128);
        uint32_t *order = block(n * 4);
        uint64_t *scratch = block(n * 16), *ordered = block(n * 8);
        CHECK(mapix_tree_build(boxes, n, nodes, order, scratch) == MAPIX_OK);
        for (uint64_t k = 0; k < n; k++) {
            ordered[k] = leaves[order[k]];
        }
        const mapix_parts parts = {nodes, ordered, n};
        ask_windows(r, &parts, in, 1);
        for (unsigned lies = 1 + take(in) % 3; lies && n; lies--) {
            nodes[take_n(in, 2) % (mapix_tree_nodes(n) * 64)] = (uint16_t)take_n(in, 2);
            ordered[take(in) % n] = take_n(in, 8);
        }
        ask_windows(r, &parts, in, 0);
        free(nodes), free(order), free(scratch), free(ordered);
    }
    free(boxes);
}

static uint32_t slow_shared(const slow_segment *a, const slow_segment *b) {
    uint32_t found = 0;
    for (unsigned y = a->box[0]; y < a->box[2]; y++) {
        for (unsigned x = a->box[1]; x < a->box[3]; x++) {
            found += slow_has(a, y, x) && slow_has(b, y, x);
        }
    }
    return found;
}

/* All pairs, in calls with small outputs; they are written to shared. */
static void join_all(const reader *r, const mapix_iid_join *of, uint64_t room,
                     uint32_t shared[MOST_SEGMENTS][MOST_SEGMENTS], int honest) {
    mapix_iid_join join = *of;
    mapix_iid_pairs pairs = {.pairs = block(room * 12), .capacity = room};
    mapix_where where;
    join.kept = block(join.n * sizeof *join.kept);
    memset(join.kept, 0, join.n * sizeof *join.kept);
    uint32_t numbers[MOST_SEGMENTS];
    for (uint32_t k = 0; k < MOST_SEGMENTS; k++) {
        numbers[k] = k;
    }
    while (pairs.leader < join.n) {
        CHECK(mapix_iid_overlaps(&r->map, &r->a->iid, &join, &pairs, &where) == MAPIX_OK);
        const uint64_t n = pairs.n, half = n / 2; /* in two lists */
        const mapix_pair_list lists[2] = {{pairs.pairs, half}, {pairs.pairs + 3 * half, n - half}};
        uint64_t *scratch = block((join.n + 1 + 2 * n) * 8);
        uint32_t *columns = block(3 * n * 4);
        CHECK(mapix_pairs_sort(lists, 2, numbers, join.n, scratch, columns, n) == MAPIX_OK);
        for (uint64_t k = 0; k < n; k++) {
            const uint32_t i = columns[k], j = columns[n + k], pixels = columns[2 * n + k];
            CHECK(i < r->a->iid.nsegments && j < r->a->iid.nsegments && pixels > 0);
            CHECK(!honest || (i < j && !shared[i][j]));
            CHECK(!honest || !k || columns[k - 1] < i || (columns[k - 1] == i && columns[n + k - 1] < j));
            shared[i][j] = pixels;
        }
        CHECK(!n || mapix_pairs_sort(lists, 2, numbers, join.n, scratch, columns, n - 1) == MAPIX_E_ARGUMENT);
        CHECK(!n || mapix_pairs_sort(lists, 2, numbers, 0, scratch, columns, n) == MAPIX_E_ARGUMENT);
        free(scratch), free(columns);
        pairs.n = 0;
    }
    free(pairs.pairs), free(join.kept);
}

static void check_overlaps(const reader *r, input *in) {
    const uint32_t n = (uint32_t)r->a->iid.nsegments;
    uint16_t boxes[4 * MOST_SEGMENTS];
    uint32_t keys[MOST_SEGMENTS], order[MOST_SEGMENTS];
    uint64_t scratch[2 * MOST_SEGMENTS];
    mapix_where where;
    for (uint32_t k = 0; k < 4 * n; k++) {
        boxes[k] = (uint16_t)r->slow[k / 4].box[k % 4];
    }
    uint16_t *nodes = block(mapix_tree_nodes(n) * 128);
    CHECK(mapix_tree_build(boxes, n, nodes, order, scratch) == MAPIX_OK);
    for (uint32_t k = 0; k < n; k++) {
        keys[k] = order[k];
    }
    mapix_place *places = block(n * sizeof *places);
    const int status = mapix_iid_places(&r->map, &r->a->iid, keys, n, places, &where);
    CHECK((status == MAPIX_OK) == !r->bad);
    const uint64_t canvas_nwords = (uint64_t[]){0, 40, 512}[take(in) % 3];
    uint64_t *canvas = block(2 * canvas_nwords * sizeof *canvas);
    mapix_iid_join join = {.nodes = nodes, .keys = keys, .order = keys, .places = places, .n = n, .canvas = canvas};
    join.canvas_nwords = canvas_nwords, join.rows = take_canvas();
    /* the same file as two: each segment is read from either of them */
    const mapix_part parts[2] = {{&r->map, NULL, 0}, {&r->map, NULL, 0}};
    const mapix_iid iids[2] = {r->a->iid, r->a->iid};
    uint32_t which[MOST_SEGMENTS];
    for (uint32_t k = 0; k < n; k++) {
        which[k] = (uint32_t)(k ^ canvas_nwords >> 3) & 1;
    }
    mapix_iid_join of_two = join;
    of_two.parts = parts, of_two.iids = iids, of_two.which = which, of_two.nparts = 2;
    static uint32_t shared[MOST_SEGMENTS][MOST_SEGMENTS], again[MOST_SEGMENTS][MOST_SEGMENTS];
    memset(shared, 0, sizeof shared), memset(again, 0, sizeof again);
    if (!r->bad) {
        const uint64_t room = 1 + take(in) % 5;
        join_all(r, &join, room, shared, 1);
        join_all(r, &of_two, room, again, 1);
        CHECK(memcmp(shared, again, sizeof shared) == 0);
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t j = i + 1; j < n; j++) {
                const slow_segment *a = &r->slow[i], *b = &r->slow[j];
                const int seen = a->box[2] <= SIDE && a->box[3] <= WIDE;
                uint32_t count;
                CHECK(!seen || shared[i][j] == slow_shared(a, b));
                CHECK(mapix_iid_shared(&r->map, &r->a->iid, &i, &j, 1, &join.rows, &count, &where) ==
                      MAPIX_OK);
                CHECK(is_clean());
                CHECK(count == shared[i][j]);
            }
        }
        for (unsigned lies = 1 + take(in) % 3; lies && n; lies--) {
            mapix_place *one = &places[take(in) % n];
            one->at = take_n(in, 2);
            one->box[take(in) % 4] = take(in);
        }
        join_all(r, &join, 40, shared, 0);
        join_all(r, &of_two, 40, shared, 0);
    }
    free(nodes), free(places), free(canvas);
}

/* All segments in one call, into memory little larger than they need: SLACK is for what might follow. */
static void check_all_rle(const reader *r, uint32_t h, uint32_t w, uint16_t *scratch, uint64_t *rows) {
    const uint32_t n = (uint32_t)r->a->iid.nsegments;
    uint32_t *keys = block(n * sizeof *keys);
    uint64_t *ends = block(n * sizeof *ends), done = 0, again = 0;
    for (uint32_t k = 0; k < n; k++) {
        keys[k] = k;
    }
    enum { ROOM = 1 << 20, SLACK = 32 };
    static uint8_t out[ROOM]; /* a block would be mapped anew each time */
    mapix_where where;
    const int status = mapix_iid_rle(&r->map, &r->a->iid, keys, n, h, w, 1, scratch, rows, out, ROOM,
                                     ends, &done, &where);
    if (status == MAPIX_OK && n) {
        CHECK(done == n);
        const uint64_t nbytes = ends[n - 1], room = nbytes + SLACK;
        uint8_t *exact = block(room);
        CHECK(mapix_iid_rle(&r->map, &r->a->iid, keys, n, h, w, 1, scratch, rows, exact, room, ends,
                            &again, &where) == MAPIX_OK);
        CHECK(again == n && ends[n - 1] == nbytes && memcmp(out, exact, nbytes) == 0);
        free(exact);
    } else {
        CHECK(n == 0 || where.record < n);
    }
    free(keys), free(ends);
}

/* The run lengths of each segment, made in calls with small outputs, and decoded. */
static void check_rle(const reader *r, input *in) {
    const uint32_t n = (uint32_t)r->a->iid.nsegments;
    const unsigned high = take(in), far = take(in); /* 128: an image that some do not lie in */
    const uint32_t h = high & 128 ? high % 24 : SIDE - high % 4;
    const uint32_t w = far & 128 ? far % 80 : WIDE - far % 4, text = take(in) % 2;
    uint16_t *scratch = block((size_t)64 * (h + 1) * 2);
    const size_t nrows = h + (h + 63) / 64;
    uint64_t *rows = block(nrows * 8);
    memset(rows, 0, nrows * 8);
    for (uint32_t key = 0; key < n; key++) {
        const slow_segment *s = &r->slow[key];
        uint64_t room = take(in) % 64, end = 0, done = 0;
        uint8_t *out = NULL;
        mapix_where where;
        int status = MAPIX_OK;
        while (!status && !done) {
            free(out);
            out = block(room);
            status = mapix_iid_rle(&r->map, &r->a->iid, &key, 1, h, w, text, scratch, rows, out, room,
                                   &end, &done, &where);
            for (size_t k = 0; k < nrows; k++) {
                CHECK(!rows[k]);
            }
            room = 2 * room + 16;
        }
        slow_segment again;
        const int bad = slow_read_segment(r->a, key, &again);
        const int fits = s->box[2] <= h && s->box[3] <= w;
        CHECK(status == MAPIX_OK ? fits && !bad : !fits || bad);
        if (status == MAPIX_OK) {
            uint32_t *counts = block((end + 1) * 4);
            uint64_t ncounts = end / 4;
            uint16_t box[4];
            memcpy(counts, out, text ? 0 : end);
            CHECK(!text || mapix_rle_counts(out, end, counts, &ncounts) == MAPIX_OK);
            CHECK(mapix_rle_box(counts, ncounts, h, w, box) == MAPIX_OK);
            const unsigned mh = box[2] - box[0], mw = box[3] - box[1];
            uint8_t *mask = block((size_t)mh * mw);
            CHECK(mapix_rle_mask(counts, ncounts, h, box, mask) == MAPIX_OK);
            for (unsigned y = 0; y < h; y++) {
                for (unsigned x = 0; x < w; x++) {
                    const int inside = y >= box[0] && y < box[2] && x >= box[1] && x < box[3];
                    CHECK(slow_has(s, y, x) ==
                          (inside && mask[(y - box[0]) * mw + (x - box[1])]));
                }
            }
            free(mask), free(counts);
        }
        free(out);
    }
    check_all_rle(r, h, w, scratch, rows);
    free(rows), free(scratch);
}

/* Run lengths of anything at all. */
static void check_text(input *in) {
    const uint32_t h = take(in) % 50, w = take(in) % 50;
    uint8_t text[64];
    uint16_t box[4];
    uint64_t n = 0, nbytes = take(in) % sizeof text;
    for (uint64_t k = 0; k < nbytes; k++) {
        text[k] = take(in);
    }
    uint32_t *counts = block(nbytes * 4);
    if (mapix_rle_counts(text, nbytes, counts, &n) == MAPIX_OK) {
        CHECK(n <= nbytes);
        uint64_t all = 0;
        for (uint64_t k = 0; k < n; k++) {
            all += counts[k];
        }
        const int status = mapix_rle_box(counts, n, h, w, box);
        CHECK((status == MAPIX_OK) == (all == (uint64_t)h * w));
        if (status == MAPIX_OK) {
            uint8_t *mask = block((size_t)(box[2] - box[0]) * (box[3] - box[1]));
            CHECK(mapix_rle_mask(counts, n, h, box, mask) == MAPIX_OK);
            free(mask);
        }
    }
    free(counts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    input in = {data, nbytes};
    const unsigned which = take(&in) % 4;
    take_level(&in);
    if (which == 3) {
        check_text(&in);
        return 0;
    }
    uint8_t room[MOST_FILE];
    archive a = take_archive(&in, room);
    if (is_readable(&a)) {
        static reader r;
        read_all(&r, &a);
        which == 0 ? check_hits(&r, &in) : which == 1 ? check_overlaps(&r, &in) : check_rle(&r, &in);
    }
    free(a.bytes);
    return 0;
}
