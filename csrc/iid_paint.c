/* iid_paint.c - segments painted over one another, a tile at a time, from the topmost down.
 *
 * A bit for each pixel of the tile says whether it has its colour, and a bit for eight by eight of them
 * whether all have: segments below those are not read. */
#include "iid_rows.h"

enum { ROWS_FAR = 24, SEGMENTS_FAR = 10 };
enum { STRIP = 8 };
enum { TILE = 256, TILE_ROW = TILE / 8 + 8, TILE_NBYTES = TILE * TILE_ROW + BITMAP_SLACK };

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    const mapix_iid_painting *p;
    uint32_t begin, end;
    uint16_t tile[4];
    uint64_t left;               /* pixels of the tile that have no colour */
    uint32_t full[TILE / STRIP]; /* of each eight rows, columns of eight that have all of theirs */
    uint8_t covered[TILE_NBYTES], flat[TILE_NBYTES];
    mapix_where where;
} paint_job;

/* One thing to be painted; what meets a row of tiles, and what of that meets a tile, is put together
 * like this, so that the processor goes through it in order. */
typedef struct {
    uint16_t box[4];
    uint32_t key;
    int32_t value;
} thing;

static inline uint64_t meets(const uint16_t *box, const uint16_t tile[4]) {
    return (uint64_t)((box[MINR] < tile[MAXR]) & (box[MAXR] > tile[MINR]) &
                      (box[MINC] < tile[MAXC]) & (box[MAXC] > tile[MINC]));
}

static uint64_t choose_band(const mapix_iid_painting *p, const uint16_t tile[4], thing *band) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < p->n; i++) {
        memcpy(band[n].box, p->boxes + 4 * i, 8);
        band[n].key = p->keys[i];
        band[n].value = p->values[i];
        n += meets(p->boxes + 4 * i, tile);
    }
    return n;
}

static uint64_t choose(const thing *band, uint64_t nband, const uint16_t tile[4], thing *chosen) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < nband; i++) {
        chosen[n] = band[i];
        n += meets(band[i].box, tile);
    }
    return n;
}

/* A new tile: nothing has its colour, but what is outside. */
static void begin_tile(paint_job *job) {
    const uint32_t h = (uint32_t)job->tile[MAXR] - job->tile[MINR];
    const uint32_t w = (uint32_t)job->tile[MAXC] - job->tile[MINC];
    memset(job->covered, 0xFF, sizeof job->covered);
    for (uint32_t row = 0; row < h; row++) {
        uint8_t *line = job->covered + row * TILE_ROW;
        memset(line, 0, w / 8);
        if (w % 8) {
            line[w / 8] = (uint8_t)(0xFFu >> w % 8);
        }
    }
    memset(job->full, 0, sizeof job->full);
    job->left = (uint64_t)h * w;
}

/* Columns of eight, as bits of `full`, that columns [begin, end) of a tile lie in. */
static inline uint32_t columns_of(uint32_t begin, uint32_t end) {
    const uint32_t first = begin / 8, last = (end - 1) / 8;
    return (UINT32_MAX >> (31 - last)) & UINT32_MAX << first;
}

/* Whether all pixels of a box in the tile have their colour; where it is known at once. */
static inline int is_covered(const paint_job *job, const uint16_t box[4]) {
    uint16_t part[4];
    if (!iid_meet(box, job->tile, part)) {
        return 1;
    }
    const uint32_t needed = columns_of((uint32_t)(part[MINC] - job->tile[MINC]),
                                       (uint32_t)(part[MAXC] - job->tile[MINC]));
    for (int k = (part[MINR] - job->tile[MINR]) / STRIP;
         k <= (part[MAXR] - 1 - job->tile[MINR]) / STRIP; k++) {
        if (needed & ~job->full[k]) {
            return 0;
        }
    }
    return 1;
}

/* Whether eight bytes can be read wherever bits of a region begin. */
static inline int roomy(const mapix_map *map, const iid_region *r) {
    return map->nbytes - (uint64_t)(r->bits - map->base) - r->nbytes >= 8;
}

#define BODY "iid_paint_body.h"
#include "each_level.h"

int mapix_iid_paint(const mapix_map *map, const mapix_iid *iid, const mapix_iid_painting *painting,
                    uint32_t begin, uint32_t end, mapix_where *where) {
    const uint16_t *window = painting->window;
    if (!iid_usable(map, iid) || !iid_upright(window) || begin < window[MINR] ||
        end > window[MAXR] || begin > end || painting->n > UINT32_MAX) {
        return MAPIX_E_ARGUMENT;
    }
    if ((uintptr_t)painting->scratch % sizeof(uint32_t)) {
        return MAPIX_E_ARGUMENT;
    }
    paint_job job;
    job.map = map, job.iid = iid, job.p = painting, job.begin = begin, job.end = end;
    job.where = (mapix_where){0};
    const int status = mapix_guarded_checked(map, MAPIX_AT_LEVEL(paint_all), &job);
    *where = job.where;
    return status;
}
