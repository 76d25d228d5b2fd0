/* jsonl.c - where the lines of a text file begin.
 *
 * memchr is what goes through the bytes: the C library's is as fast as memory on every machine, and a
 * line costs one call. */
#include "guard.h"

#include <string.h>

typedef struct {
    const mapix_map *map;
    mapix_lines *lines;
    uint64_t stop_at;
    uint64_t *begins, *numbers;
    uint64_t capacity;
    uint64_t *nwritten;
} lines_job;

static int is_blank(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static int all_blank(const uint8_t *p, uint64_t nbytes) {
    while (nbytes && is_blank(*p)) {
        p++;
        nbytes--;
    }
    return nbytes == 0;
}

static int find_lines(void *arg) {
    const lines_job *job = arg;
    const uint8_t *base = job->map->base;
    const uint64_t nbytes = job->map->nbytes;
    const uint64_t stop = job->stop_at < nbytes ? job->stop_at : nbytes;
    mapix_lines s = *job->lines;
    uint64_t n = 0;
    if (s.at == 0 && nbytes >= 3 && memcmp(base, "\xef\xbb\xbf", 3) == 0) {
        s.at = s.begin = 3;
    }
    while (s.at < stop && n < job->capacity) {
        const uint8_t *from = base + s.at, *newline = memchr(from, '\n', stop - s.at);
        const uint64_t end = newline ? (uint64_t)(newline - base) : stop;
        s.busy = s.busy || !all_blank(from, end - s.at);
        s.at = newline ? end + 1 : end;
        if (!newline && end < nbytes) {
            break; /* in the middle of a line: the next call goes on with it */
        }
        s.nlines++;
        if (s.busy) {
            if (job->begins) {
                job->begins[n] = s.begin;
            }
            if (job->numbers) {
                job->numbers[n] = s.nlines;
            }
            n++;
            s.nrecords++;
            s.longest = end - s.begin > s.longest ? end - s.begin : s.longest;
        }
        s.busy = 0;
        s.begin = s.at;
    }
    *job->lines = s;
    *job->nwritten = n;
    return MAPIX_OK;
}

int mapix_jsonl_lines(const mapix_map *map, mapix_lines *lines, uint64_t stop_at, uint64_t *begins,
                      uint64_t *numbers, uint64_t capacity, uint64_t *nwritten) {
    *nwritten = 0;
    if (lines->begin > lines->at || lines->at > map->nbytes || lines->busy > 1) {
        return MAPIX_E_ARGUMENT;
    }
    const mapix_lines before = *lines;
    lines_job job = {map, lines, stop_at, begins, numbers, capacity, nwritten};
    const int status = mapix_guarded_checked(map, find_lines, &job);
    if (status) {
        *lines = before;
        *nwritten = 0;
    }
    return status;
}
