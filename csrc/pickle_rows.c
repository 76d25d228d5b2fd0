/* pickle_rows.c - rows of small numbers out of a pickle: data, never instructions. */
#include "guard.h"

typedef struct {
    const mapix_map *map;
    uint64_t at, memo;
    uint32_t ncolumns;
    uint8_t *out;
    uint64_t nrows;
    mapix_pickle_run *run;
} rows_job;

/* Bytes of the memo opcode at p (left > 0 of them there) when it memoises `number`, else 0. */
static uint64_t memo_nbytes(const uint8_t *p, uint64_t left, uint64_t number) {
    if (p[0] == 0x94) { /* MEMOIZE counts by itself */
        return 1;
    }
    if (p[0] == 'q' && left >= 2 && p[1] == number) { /* BINPUT */
        return 2;
    }
    if (p[0] == 'r' && left >= 5) { /* LONG_BINPUT */
        const uint64_t said = (uint64_t)p[1] | (uint64_t)p[2] << 8 | (uint64_t)p[3] << 16 |
                              (uint64_t)p[4] << 24;
        return said == number ? 5 : 0;
    }
    return 0;
}

/* Bytes of the row at p when it is one of n numbers, which go to `out`; else 0. */
static uint64_t row_nbytes(const uint8_t *p, uint64_t left, uint64_t number, uint32_t n,
                           uint8_t *out) {
    if (left < 2 || p[0] != ']') {
        return 0;
    }
    const uint64_t memo = memo_nbytes(p + 1, left - 1, number);
    const uint64_t frame = n > 1 ? 2 : n; /* MARK and APPENDS, or APPEND alone */
    const uint64_t whole = 1 + memo + frame + 2 * (uint64_t)n;
    if (!memo || whole > left) {
        return 0;
    }
    const uint8_t *number_at = p + 1 + memo + (n > 1);
    if (n && ((n > 1 && number_at[-1] != '(') || p[whole - 1] != (n > 1 ? 'e' : 'a'))) {
        return 0;
    }
    for (uint32_t k = 0; k < n; k++) {
        if (number_at[2 * k] != 'K') { /* BININT1 */
            return 0;
        }
        out[k] = number_at[2 * k + 1];
    }
    return whole;
}

static int read_rows(void *arg) {
    rows_job *job = arg;
    const uint64_t nbytes = job->map->nbytes;
    while (job->run->nrows < job->nrows && job->run->at < nbytes) {
        const uint64_t r = job->run->nrows, at = job->run->at;
        const uint64_t size = row_nbytes(job->map->base + at, nbytes - at, job->memo + r,
                                         job->ncolumns, job->out + r * job->ncolumns);
        if (!size) {
            break;
        }
        job->run->at += size;
        job->run->nrows++;
    }
    return MAPIX_OK;
}

int mapix_pickle_rows(const mapix_map *map, uint64_t at, uint64_t memo, uint32_t ncolumns, uint8_t *out,
                      uint64_t nrows, mapix_pickle_run *run) {
    rows_job job = {map, at, memo, ncolumns, out, nrows, run};
    run->at = at;
    run->nrows = 0;
    return mapix_guarded_checked(map, read_rows, &job);
}
