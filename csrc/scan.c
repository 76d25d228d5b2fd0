/* scan.c - checksums of many records, and moments of their pixels. */
#include "table.h"

enum { SUM_BLOCK = 16384 }; /* bytes whose squares add up to less than 2^32 */

typedef struct {
    mapix_moments *moments;
    uint32_t nchannels;
} moments_job;

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

static int add_image(const row_run *run, uint64_t i, const located *r, mapix_where *where) {
    const moments_job *job = run->arg;
    const uint8_t *image = run->map->base + r->at + before_image(run->table->head_nbytes, r->header.n);
    const uint64_t c = r->header.c, plane = (uint64_t)r->header.h * r->header.w;
    (void)i;
    (void)where;
    if (c > job->nchannels) {
        return MAPIX_E_ARGUMENT;
    }
    for (uint64_t k = 0; k < c; k++) {
        if (run->table->interleaved && c > 1) {
            add_pixels(&job->moments[k], image + k, c, plane);
        } else {
            add_line(&job->moments[k], image + k * plane, plane);
        }
    }
    return MAPIX_OK;
}

static int sum_record(const row_run *run, uint64_t i, const located *r, mapix_where *where) {
    uint32_t *crcs = run->arg;
    (void)where;
    crcs[i] = mapix_crc32c(run->map->base + r->at, r->size, 0);
    return MAPIX_OK;
}

int mapix_table_checksums(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                          uint64_t nrows, uint32_t *crcs, mapix_where *where) {
    const row_run run = {.map = map, .table = table, .rows = rows, .nrows = nrows,
                         .reads = READS_RECORD, .each = sum_record, .arg = crcs};
    return mapix_run_rows(&run, where);
}

int mapix_table_moments(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                        uint64_t nrows, uint32_t nchannels, mapix_moments *moments,
                        mapix_where *where) {
    moments_job job = {moments, nchannels};
    const row_run run = {.map = map, .table = table, .rows = rows, .nrows = nrows,
                         .reads = READS_RECORD, .each = add_image, .arg = &job};
    return mapix_run_rows(&run, where);
}
