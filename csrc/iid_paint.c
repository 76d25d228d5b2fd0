/* iid_paint.c - segments painted over one another, a tile at a time, from the topmost down.
 *
 * A bit for each pixel of the tile says whether it has its colour; what is below is looked at, but
 * not painted, and a tile that is full is done. */
#include "iid_rows.h"

enum { TILE = 256, TILE_ROW = TILE / 8 + 8, TILE_NBYTES = TILE * TILE_ROW + BITMAP_SLACK };

typedef struct {
    const mapix_map *map;
    const mapix_iid *iid;
    const mapix_iid_painting *p;
    uint32_t begin, end;
    uint16_t tile[4];
    uint64_t left; /* pixels of the tile that have no colour */
    uint8_t covered[TILE_NBYTES], flat[TILE_NBYTES];
    mapix_where where;
} paint_job;

/* Of the first n painted things in `from` (or, without, of all) those whose box meets the rows and
 * columns of a tile; how many. */
static uint64_t choose(const mapix_iid_painting *p, const uint32_t *from, uint64_t n,
                       const uint16_t tile[4], uint32_t *chosen) {
    uint64_t nchosen = 0;
    for (uint64_t k = 0; k < n; k++) {
        const uint32_t i = from ? from[k] : (uint32_t)k;
        const uint16_t *b = p->boxes + 4 * (uint64_t)i;
        chosen[nchosen] = i;
        nchosen += (uint64_t)((b[MINR] < tile[MAXR]) & (b[MAXR] > tile[MINR]) &
                              (b[MINC] < tile[MAXC]) & (b[MAXC] > tile[MINC]));
    }
    return nchosen;
}

/* Whether eight bytes can be read wherever bits of a region begin. */
static inline int roomy(const mapix_map *map, const iid_region *r) {
    return map->nbytes - (uint64_t)(r->bits - map->base) - r->nbytes >= 8;
}

#define LEVEL 0
#include "iid_paint_body.h"
#undef LEVEL
#if MAPIX_LEVELS > 1
#define LEVEL 1
#include "iid_paint_body.h"
#undef LEVEL
#define LEVEL 2
#include "iid_paint_body.h"
#undef LEVEL
#endif

int mapix_iid_paint(const mapix_map *map, const mapix_iid *iid, const mapix_iid_painting *painting,
                    uint32_t begin, uint32_t end, mapix_where *where) {
    const uint16_t *window = painting->window;
    if (!iid_usable(map, iid) || !iid_upright(window) || begin < window[MINR] ||
        end > window[MAXR] || begin > end || painting->n > UINT32_MAX) {
        return MAPIX_E_ARGUMENT;
    }
    paint_job job;
    job.map = map, job.iid = iid, job.p = painting, job.begin = begin, job.end = end;
    job.where = (mapix_where){0};
    const int status = mapix_guarded_checked(map, MAPIX_AT_LEVEL(paint_all), &job);
    *where = job.where;
    return status;
}
