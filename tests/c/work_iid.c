/* work_iid.c - how much work the core does for an archive: basic blocks that it goes through, counted by
 * gcc's -fsanitize-coverage=trace-pc, and a block for each 16 bytes that memset clears.
 *
 * For each file that is named: a line of `function=blocks`.  Windows are as large as the package lets a
 * file of 1 MiB make them.  Overlaps end where the package ends them. */
#include "mapix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUIET __attribute__((no_sanitize_coverage))

static uint64_t blocks;

void __sanitizer_cov_trace_pc(void);
QUIET void __sanitizer_cov_trace_pc(void) {
    blocks++;
}

void *__real_memset(void *to, int byte, size_t n);
void *__wrap_memset(void *to, int byte, size_t n);
QUIET void *__wrap_memset(void *to, int byte, size_t n) {
    blocks += n / 16;
    return __real_memset(to, byte, n);
}

#define MEASURE(name, call)                                             \
    do {                                                                \
        blocks = 0;                                                     \
        const int status_ = (call);                                     \
        printf("%s=%llu ", name, (unsigned long long)blocks);           \
        if (status_ && status_ != MAPIX_E_SHAPE) {                      \
            printf("%s_status=%d ", name, status_);                     \
        }                                                               \
    } while (0)

enum { ROOM = 1 << 20, SIDE = 8192, HALF = 4096, BAND = 256, CANVAS = 1 << 19 };

QUIET static void *need(size_t nbytes) {
    void *p = calloc(1, nbytes + 64);
    if (!p) {
        exit(2);
    }
    return p;
}

QUIET static uint32_t word_at(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

QUIET static int parts_of(const mapix_map *map, const mapix_iid *iid, uint16_t *boxes, uint64_t *leaves,
                          uint64_t *n) {
    uint64_t key = 0;
    mapix_where where;
    return mapix_iid_parts(map, iid, &key, iid->nsegments, boxes, leaves, ROOM, n, &where);
}

QUIET static int all_pairs(const mapix_map *map, const mapix_iid *iid, const mapix_iid_join *join,
                           mapix_iid_pairs *pairs) {
    mapix_where where;
    int status = MAPIX_OK;
    const uint64_t most = (map->nbytes < ROOM ? ROOM : map->nbytes) << 10;
    while (!status && pairs->leader < join->n && pairs->work <= most) {
        pairs->n = 0; /* what was found is of no interest here */
        status = mapix_iid_overlaps(map, iid, join, pairs, &where);
    }
    return status;
}

QUIET static int paint_all(const mapix_map *map, const mapix_iid *iid, mapix_iid_painting *p) {
    mapix_where where;
    int status = MAPIX_OK;
    for (uint32_t row = 0; !status && row < SIDE; row += BAND) {
        status = mapix_iid_paint(map, iid, p, row, row + BAND, &where);
    }
    return status;
}

QUIET static void measure(const mapix_map *map, const mapix_iid *iid) {
    const uint32_t n = (uint32_t)iid->nsegments;
    uint16_t *boxes = need(n * 8), *part_boxes = need((size_t)ROOM * 8);
    uint32_t *areas = need(n * 4), *keys = need(n * 4), *next_keys = need(n * 4), *counts = need(n * 4);
    uint64_t totals[3], *ends = need(n * 16), done = 0, nfound = 0, window_at = 0, nparts = 0, nbytes;
    mapix_where where;
    mapix_canvas canvas = {need((size_t)CANVAS * 8), CANVAS};
    for (uint32_t k = 0; k < n; k++) {
        keys[k] = k;
        next_keys[k] = n ? (k + 1) % n : 0;
    }
    MEASURE("columns", mapix_iid_columns(map, iid, 0, n, boxes, areas, totals, &where));
    uint64_t nslots = 4;
    while (nslots <= 2 * (uint64_t)n) {
        nslots *= 2;
    }
    uint64_t *slots = need(nslots * 8);
    MEASURE("names", mapix_iid_names(map, iid, 7, slots, nslots, areas, &where));
    uint8_t *text = need(4 * map->nbytes + ROOM);
    MEASURE("texts", mapix_iid_texts(map, iid, keys, n, ends, text, 4 * map->nbytes + ROOM, &nbytes, &where));
    MEASURE("count", mapix_iid_count(map, iid, keys, boxes, n, 0, &canvas, counts, &where));
    MEASURE("any", mapix_iid_count(map, iid, keys, boxes, n, 1, &canvas, counts, &where));
    MEASURE("shared", mapix_iid_shared(map, iid, keys, next_keys, n, &canvas, counts, &where));
    uint64_t *leaves = need((size_t)ROOM * 8);
    MEASURE("parts", parts_of(map, iid, part_boxes, leaves, &nparts));
    uint16_t *nodes = need(mapix_tree_nodes(nparts) * 128);
    uint32_t *order = need(nparts * 4), *found = need((2 * nparts + 64) * 4), one = 0;
    uint64_t *sort = need(nparts * 16), *sorted = need(nparts * 8);
    MEASURE("tree", mapix_tree_build(part_boxes, nparts, nodes, order, sort));
    for (uint64_t k = 0; k < nparts; k++) {
        sorted[k] = leaves[order[k]];
    }
    const mapix_parts parts = {nodes, sorted, nparts};
    const uint16_t image[4] = {0, 0, 65535, 65535};
    MEASURE("hits", mapix_iid_hits(map, iid, &parts, image, 1, &window_at, found, 2 * nparts + 64, &nfound,
                                   &one, &where));
    uint16_t *scratch = need((size_t)64 * 65536 * 2);
    uint64_t *rows = need((65535 + 1024) * 8);
    uint8_t *out = need(16 * map->nbytes + ROOM);
    MEASURE("rle", mapix_iid_rle(map, iid, keys, n, 65535, 65535, 1, scratch, rows, out,
                                 16 * map->nbytes + ROOM, ends, &done, &where));
    const uint16_t window[4] = {0, 0, SIDE, HALF};
    uint64_t *first = need((size_t)SIDE * HALF / 8), *second = need((size_t)SIDE * HALF / 8);
    for (uint32_t what = 0; what < 3; what++) {
        char name[] = "combine0";
        name[7] = (char)('0' + what);
        memset(first, 0xFF, (size_t)SIDE * HALF / 8);
        memset(second, 0, (size_t)SIDE * HALF / 8);
        MEASURE(name, mapix_iid_combine(map, iid, keys, n, what, window, first, second, HALF / 64, &where));
    }
    mapix_place *places = need(n * sizeof *places);
    uint16_t *box_nodes = need(mapix_tree_nodes(n) * 128);
    uint32_t *box_order = need(n * 4);
    uint64_t *box_sort = need((size_t)n * 16);
    (void)mapix_tree_build(boxes, n, box_nodes, box_order, box_sort);
    MEASURE("places", mapix_iid_places(map, iid, box_order, n, places, &where));
    mapix_iid_join join = {.nodes = box_nodes, .keys = box_order, .order = box_order, .places = places, .n = n, .rows = canvas};
    join.canvas = need((size_t)16 << 20);
    join.canvas_nwords = (size_t)1 << 20;
    join.kept = need((size_t)n * 8);
    mapix_iid_pairs pairs = {.pairs = need((size_t)ROOM * 12), .capacity = ROOM};
    MEASURE("overlaps", all_pairs(map, iid, &join, &pairs));
    printf("overlaps_told=%llu ", (unsigned long long)pairs.work);
    int32_t *labels = need((size_t)SIDE * SIDE * 4);
    mapix_iid_painting painting = {keys, (const int32_t *)keys, boxes, n, {0, 0, SIDE, SIDE}, labels, NULL,
                                   need(((size_t)n + 1) * 32)};
    MEASURE("paint", paint_all(map, iid, &painting));
    void *all[] = {boxes, part_boxes, areas, keys, next_keys, counts, ends, canvas.words, slots, text,
                   leaves, nodes, order, found, sort, sorted, scratch, rows, out, first, second, places,
                   box_nodes, box_order, box_sort, join.canvas, join.kept, pairs.pairs, labels, painting.scratch};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        free(all[k]);
    }
}

QUIET int main(int argc, char **argv) {
    for (int k = 1; k < argc; k++) {
        FILE *f = fopen(argv[k], "rb");
        if (!f || fseek(f, 0, SEEK_END)) {
            return 2;
        }
        const size_t nbytes = (size_t)ftell(f);
        uint8_t *bytes = need(nbytes);
        rewind(f);
        if (nbytes < 48 || fread(bytes, 1, nbytes, f) != nbytes) {
            return 2;
        }
        fclose(f);
        const mapix_map map = {.base = bytes, .nbytes = nbytes, .fd = -1};
        const mapix_iid iid = {word_at(bytes + 12) / 20, word_at(bytes + 8), word_at(bytes + 16),
                               word_at(bytes + 20), word_at(bytes + 40), word_at(bytes + 44)};
        measure(&map, &iid);
        printf("\n");
        free(bytes);
    }
    return 0;
}
