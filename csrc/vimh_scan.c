/* vimh_scan.c - one pass over many records: checksums, and what there is to know of their pixels. */
#include "vimh_locate.h"

enum { SUM_BLOCK = 16384 }; /* bytes whose squares add up to less than 2^32 */

typedef struct {
    const mapix_map *map;
    const mapix_vimh_index *index;
    const int64_t *rows;
    uint64_t nrows;
    uint32_t *crcs;
    mapix_moments *moments;
    uint32_t nchannels;
    mapix_where where;
} scan_job;

static void add_line(mapix_moments *m, const uint8_t *p, uint64_t n) {
    for (uint64_t at = 0; at < n; at += SUM_BLOCK) {
        const uint64_t left = n - at < SUM_BLOCK ? n - at : SUM_BLOCK;
        const uint8_t *block = p + at;
        uint32_t sum = 0, squares = 0;
        uint8_t low = 255, high = 0;
        for (uint64_t i = 0; i < left; i++) {
            const uint32_t x = block[i];
            sum += x;
            squares += x * x;
            low = block[i] < low ? block[i] : low;
            high = block[i] > high ? block[i] : high;
        }
        m->sum += sum;
        m->squares += squares;
        m->low = low < m->low ? low : m->low;
        m->high = high > m->high ? high : m->high;
    }
    m->count += n;
}

static void add_pixels(mapix_moments *m, const uint8_t *p, uint64_t step, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        add_line(m, p + i * step, 1);
    }
}

static int add_image(const scan_job *job, const located *r) {
    const uint8_t *image =
        job->map->base + r->at + before_image(job->index->head_nbytes, r->header.n);
    const uint64_t c = r->header.c, plane = (uint64_t)r->header.h * r->header.w;
    if (c > job->nchannels) {
        return MAPIX_E_ARGUMENT;
    }
    for (uint64_t k = 0; k < c; k++) {
        if (job->index->interleaved && c > 1) {
            add_pixels(&job->moments[k], image + k, c, plane);
        } else {
            add_line(&job->moments[k], image + k * plane, plane);
        }
    }
    return MAPIX_OK;
}

static int scan(void *arg) {
    scan_job *job = arg;
    for (uint64_t i = 0; i < job->nrows; i++) {
        located r;
        uint64_t row;
        *(volatile uint64_t *)&job->where.record = i; /* for a fault, which cannot say where */
        int status = row_number(job->index, job->rows, i, &row, &job->where);
        status = status ? status : locate(job->index, job->map->nbytes, row, &r, &job->where);
        status = status ? status
                        : confirm(job->map, job->index->head_nbytes, row, &r, &job->where);
        if (!status && job->moments) {
            status = add_image(job, &r);
        }
        if (status) {
            return status;
        }
        if (job->crcs) {
            job->crcs[i] = mapix_crc32c(job->map->base + r.at, r.size, 0);
        }
    }
    return MAPIX_OK;
}

static int run(scan_job *job, mapix_where *where) {
    if (!index_usable(job->index)) {
        return MAPIX_E_ARGUMENT;
    }
    const int status = with_index(job->map, job->index, scan, job);
    *where = job->where;
    const int moved = status == MAPIX_E_SYSTEM ? MAPIX_OK : mapix_map_check(job->map);
    return moved ? moved : status;
}

int mapix_vimh_checksums(const mapix_map *map, const mapix_vimh_index *index, const int64_t *rows,
                         uint64_t nrows, uint32_t *crcs, mapix_where *where) {
    scan_job job = {.map = map, .index = index, .rows = rows, .nrows = nrows, .crcs = crcs};
    return run(&job, where);
}

int mapix_vimh_moments(const mapix_map *map, const mapix_vimh_index *index, const int64_t *rows,
                       uint64_t nrows, uint32_t nchannels, mapix_moments *moments,
                       mapix_where *where) {
    scan_job job = {.map = map,
                    .index = index,
                    .rows = rows,
                    .nrows = nrows,
                    .moments = moments,
                    .nchannels = nchannels};
    return run(&job, where);
}
