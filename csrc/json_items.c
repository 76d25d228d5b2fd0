/* json_items.c - where the items of a JSON array lie, and numbers of objects, to the nearest doubles.
 *
 * An item is found by its brackets and quotes alone; whoever reads it parses it.  Of an object the places of
 * some values are noted, so that a column of a large file is read without its objects. */
#include "guard.h"

#include <math.h>
#include <string.h>

enum {
    MOST_DEEP = 64,   /* brackets in brackets in an item: one bit each */
    MOST_DIGITS = 19, /* that fit a uint64_t */
};

enum { /* what is expected next; the caller sees the first two alone */
    AT_BEGIN = MAPIX_JSON_BEGIN,
    AT_DONE = MAPIX_JSON_DONE,
    AT_FIRST = 2, /* an item, or `]` */
    AT_NEXT = 3,  /* an item */
    AFTER = 4,    /* `,` or `]` */
    IN_ITEM = 5,  /* the inside of an item is wrong */
};

static int is_blank(uint8_t c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static int is_digit(uint8_t c) {
    return (uint8_t)(c - '0') < 10;
}

static const uint8_t *after_blanks(const uint8_t *p, const uint8_t *end) {
    while (p < end && is_blank(*p)) {
        p++;
    }
    return p;
}

/* The byte after the string whose first quote is at p; null if it does not end. */
static const uint8_t *after_string(const uint8_t *p, const uint8_t *end, int *escaped) {
    for (p++; p < end; p++) {
        if (*p == '"') {
            return p + 1;
        }
        if (*p == '\\') {
            *escaped = 1;
            p++;
        }
    }
    return NULL;
}

/* Skip eight bytes at a time that are neither quotes nor brackets: most text is numbers. */
static const uint8_t *after_plain(const uint8_t *p, const uint8_t *end) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    while (end - p >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        const uint64_t quotes = word ^ (ones * '"');
        if ((word & (ones * 0x40)) || ((quotes - ones) & ~quotes & (ones * 0x80))) {
            break;
        }
        p += 8;
    }
    return p;
}

static int ends_plain(uint8_t c) {
    return is_blank(c) || memchr(",]}[{\":", c, 7);
}

/* The byte after the value at p; null if it does not end before `end`, or its brackets do not match: then
 * *stopped is where. */
static const uint8_t *after_value(const uint8_t *p, const uint8_t *end, const uint8_t **stopped) {
    int escaped, depth = 0;
    uint64_t braces = 0; /* a bit for each open bracket: 1 for `{` */
    *stopped = end;
    if (p < end && *p == '"') {
        return after_string(p, end, &escaped);
    }
    if (p < end && *p != '{' && *p != '[') {
        const uint8_t *begin = p;
        while (p < end && !ends_plain(*p)) {
            p++;
        }
        *stopped = p;
        return p > begin ? p : NULL;
    }
    while (p < end) {
        const uint8_t c = *p;
        const uint8_t *here = p;
        if (c == '"') {
            p = after_string(p, end, &escaped);
            if (!p) {
                return NULL;
            }
            continue;
        }
        if (c == '{' || c == '[') {
            if (depth++ == MOST_DEEP) {
                *stopped = here;
                return NULL;
            }
            braces = braces << 1 | (c == '{');
        } else if (c == '}' || c == ']') {
            if ((braces & 1) != (c == '}')) {
                *stopped = here;
                return NULL;
            }
            braces >>= 1;
            if (--depth == 0) {
                return p + 1;
            }
        }
        p = after_plain(p + 1, end);
    }
    return NULL;
}

/* after_value up to `stop`; with `cut`, text follows, and a number that goes on there does not end. */
static const uint8_t *after_part(const uint8_t *p, const uint8_t *stop, int cut, const uint8_t **stopped) {
    const uint8_t *after = after_value(p, stop, stopped);
    const int goes_on = cut && after == stop && !memchr("\"[{", *p, 3) && !ends_plain(*stop);
    return goes_on ? NULL : after;
}

typedef struct {
    const mapix_map *map;
    mapix_json_list *list;
    const uint8_t *keys;
    const uint32_t *key_ends;
    uint32_t nkeys, most_nbytes;
    uint64_t stop_at;
    uint64_t *begins;
    uint32_t *sizes, *places;
    uint64_t capacity, n;
    mapix_where *where;
} items_job;

static int failed(const items_job *job, const uint8_t *p, uint64_t expected) {
    const uint8_t *base = job->map->base, *end = base + job->map->nbytes;
    *job->where = (mapix_where){job->list->nitems, (uint64_t)(p - base), expected,
                                p < end ? *p : MAPIX_JSON_END};
    return MAPIX_E_JSON_TOKEN;
}

static void note(const items_job *job, const uint8_t *key, uint64_t nbytes, uint32_t place,
                 uint32_t *places) {
    uint32_t at = 0;
    for (uint32_t k = 0; k < job->nkeys; at = job->key_ends[k++]) {
        if (job->key_ends[k] - at == nbytes && memcmp(job->keys + at, key, nbytes) == 0) {
            places[k] = place;
        }
    }
}

/* Note the places of values in the object at p, and return the byte after it.  On an error *stopped is where
 * it is. */
static const uint8_t *after_object(const items_job *job, const uint8_t *p, const uint8_t *end,
                                   uint32_t *places, const uint8_t **stopped) {
    const uint8_t *begin = p;
    int escaped = 0;
    memset(places, 0, job->nkeys * sizeof *places);
    p = after_blanks(p + 1, end);
    if (p < end && *p == '}') {
        return p + 1;
    }
    for (;;) {
        const uint8_t *key = p, *value;
        *stopped = p;
        if (p >= end || *p != '"') {
            return NULL;
        }
        if (!(p = after_string(p, end, &escaped))) {
            *stopped = end;
            return NULL;
        }
        const uint64_t nbytes = (uint64_t)(p - key) - 2;
        *stopped = p = after_blanks(p, end);
        if (p >= end || *p != ':') {
            return NULL;
        }
        value = after_blanks(p + 1, end);
        if (!(p = after_value(value, end, stopped))) {
            return NULL;
        }
        note(job, key + 1, nbytes, (uint32_t)(value - begin), places);
        *stopped = p = after_blanks(p, end);
        if (p < end && *p == '}') {
            break;
        }
        if (p >= end || *p != ',') {
            return NULL;
        }
        p = after_blanks(p + 1, end);
    }
    for (uint32_t k = 0; escaped && k < job->nkeys; k++) {
        places[k] = UINT32_MAX; /* a key that is written in another way: the caller parses the object */
    }
    return p + 1;
}

static int find_item(items_job *job, const uint8_t *p, const uint8_t *end) {
    const uint64_t left = (uint64_t)(end - p);
    const int cut = left > job->most_nbytes;
    const uint8_t *stop = cut ? p + job->most_nbytes : end, *after, *stopped = p;
    if (job->nkeys) {
        if (*p != '{') {
            return failed(job, p, IN_ITEM);
        }
        after = after_object(job, p, stop, job->places + job->n * job->nkeys, &stopped);
    } else {
        after = after_part(p, stop, cut, &stopped);
    }
    if (!after) {
        const int status = failed(job, stopped, IN_ITEM);
        return cut && stopped == stop ? MAPIX_E_JSON_LONG : status;
    }
    job->begins[job->n] = (uint64_t)(p - job->map->base);
    job->sizes[job->n] = (uint32_t)(after - p);
    job->n++;
    job->list->nitems++;
    job->list->at += (uint64_t)(after - p);
    job->list->state = AFTER;
    return MAPIX_OK;
}

static int find_items(void *arg) {
    items_job *job = arg;
    mapix_json_list *list = job->list;
    const uint8_t *base = job->map->base, *end = base + job->map->nbytes;
    while (list->state != AT_DONE && list->at < job->stop_at && job->n < job->capacity) {
        const uint8_t *p = after_blanks(base + list->at, end);
        const uint32_t state = list->state;
        list->at = (uint64_t)(p - base);
        if (p >= end) {
            return failed(job, p, state);
        }
        if (state == AT_BEGIN && *p == '[') {
            list->state = AT_FIRST;
        } else if (state == AFTER && *p == ',') {
            list->state = AT_NEXT;
        } else if ((state == AFTER || state == AT_FIRST) && *p == ']') {
            list->state = AT_DONE;
        } else if (state == AT_FIRST || state == AT_NEXT) {
            const int status = find_item(job, p, end);
            if (status) {
                return status;
            }
            continue;
        } else {
            return failed(job, p, state);
        }
        list->at++;
    }
    return MAPIX_OK;
}

int mapix_json_items(const mapix_map *map, mapix_json_list *list, const uint8_t *keys,
                     const uint32_t *key_ends, uint32_t nkeys, uint32_t most_nbytes,
                     uint64_t stop_at, uint64_t *begins, uint32_t *sizes, uint32_t *places,
                     uint64_t capacity, uint64_t *nfound, mapix_where *where) {
    *nfound = 0;
    if (list->at > map->nbytes || list->state > AFTER || !most_nbytes ||
        most_nbytes == UINT32_MAX) {
        return MAPIX_E_ARGUMENT;
    }
    items_job job = {.map = map, .list = list, .keys = keys, .key_ends = key_ends, .nkeys = nkeys};
    job.most_nbytes = most_nbytes, job.stop_at = stop_at;
    job.begins = begins, job.sizes = sizes, job.places = places;
    job.capacity = capacity, job.where = where;
    const int status = mapix_guarded_checked(map, find_items, &job);
    *nfound = status == MAPIX_E_FAULT || status == MAPIX_E_CHANGED ? 0 : job.n;
    return status;
}

/* --- the end of one value ------------------------------------------------------------------------- */

typedef struct {
    const mapix_map *map;
    uint64_t at, most_nbytes, end;
} value_job;

static int find_end(void *arg) {
    value_job *job = arg;
    const uint8_t *p = job->map->base + job->at, *stopped;
    const uint64_t left = job->map->nbytes - job->at;
    const int cut = left > job->most_nbytes;
    const uint8_t *stop = p + (cut ? job->most_nbytes : left);
    const uint8_t *after = after_part(p, stop, cut, &stopped);
    job->end = job->at + (uint64_t)((after ? after : stopped) - p);
    return after ? MAPIX_OK : cut && stopped == stop ? MAPIX_E_JSON_LONG : MAPIX_E_JSON_TOKEN;
}

int mapix_json_value_end(const mapix_map *map, uint64_t at, uint64_t most_nbytes, uint64_t *end) {
    if (at > map->nbytes) {
        return MAPIX_E_ARGUMENT;
    }
    value_job job = {map, at, most_nbytes, at};
    const int status = mapix_guarded_checked(map, find_end, &job);
    *end = job.end;
    return status;
}

/* --- numbers -------------------------------------------------------------------------------------- */

/* m / 10^k, rounded once; k is at most 19. */
static double quotient(uint64_t m, unsigned k) {
    uint64_t d = 1;
    for (unsigned i = 0; i < k; i++) {
        d *= 10;
    }
    if (m == 0 || d == 1) {
        return (double)m;
    }
    const int up_m = __builtin_clzll(m), up_d = __builtin_clzll(d);
    const unsigned __int128 n = (unsigned __int128)(m << up_m) << 63;
    const uint64_t q = (uint64_t)(n / (d << up_d));
    const uint64_t inexact = (unsigned __int128)q * (d << up_d) != n;
    return ldexp((double)(q | inexact), up_d - up_m - 63); /* q has 62 bits or more: one rounding */
}

/* Read the number at *p; return MAPIX_JSON_GOOD, or MAPIX_JSON_OTHER for anything else. */
static uint8_t read_number(const uint8_t **at, const uint8_t *end, int whole, double *d, int64_t *i) {
    const uint8_t *p = *at;
    const int negative = p < end && *p == '-';
    unsigned ndigits = 0, after_dot = 0;
    uint64_t m = 0;
    p += negative;
    const uint8_t *first = p;
    for (; p < end && is_digit(*p) && ndigits < MOST_DIGITS; p++, ndigits += m != 0) {
        m = m * 10 + (uint64_t)(*p - '0');
    }
    if (p == first || (*first == '0' && p > first + 1)) {
        return MAPIX_JSON_OTHER;
    }
    if (!whole && p < end && *p == '.') {
        const uint8_t *dot = p++;
        for (; p < end && is_digit(*p) && ndigits < MOST_DIGITS && after_dot < MOST_DIGITS; p++) {
            m = m * 10 + (uint64_t)(*p - '0');
            ndigits += m != 0;
            after_dot++;
        }
        if (p == dot + 1) {
            return MAPIX_JSON_OTHER;
        }
    }
    if (p < end && !is_blank(*p) && *p != ',' && *p != ']' && *p != '}') {
        return MAPIX_JSON_OTHER; /* more digits, an exponent, or no number */
    }
    if (whole) {
        if (m > INT64_MAX) {
            return MAPIX_JSON_OTHER;
        }
        *i = negative ? -(int64_t)m : (int64_t)m;
    } else {
        const double found = quotient(m, after_dot);
        *d = negative ? -found : found;
    }
    *at = p;
    return MAPIX_JSON_GOOD;
}

typedef struct {
    const mapix_map *map;
    const uint64_t *at;
    uint64_t n;
    uint32_t width;
    double *doubles;
    int64_t *integers;
    uint8_t *found;
} values_job;

static uint8_t read_list(const values_job *job, const uint8_t *p, const uint8_t *end, double *out) {
    if (*p++ != '[') {
        return MAPIX_JSON_OTHER;
    }
    for (uint32_t k = 0; k < job->width; k++) {
        p = after_blanks(p, end);
        if (read_number(&p, end, 0, out + k, NULL) != MAPIX_JSON_GOOD) {
            return MAPIX_JSON_OTHER;
        }
        p = after_blanks(p, end);
        if (p >= end || *p++ != (k + 1 < job->width ? ',' : ']')) {
            return MAPIX_JSON_OTHER;
        }
    }
    return MAPIX_JSON_GOOD;
}

static int read_values(void *arg) {
    values_job *job = arg;
    const uint8_t *base = job->map->base, *end = base + job->map->nbytes;
    for (uint64_t i = 0; i < job->n; i++) {
        const int inside = job->at[i] < job->map->nbytes;
        const uint8_t *p = inside ? base + job->at[i] : end;
        uint8_t found;
        if (!inside) {
            found = job->at[i] == UINT64_MAX ? MAPIX_JSON_MISSING : MAPIX_JSON_OTHER;
        } else if (job->width) {
            found = read_list(job, p, end, job->doubles + i * job->width);
        } else if (job->integers) {
            found = read_number(&p, end, 1, NULL, job->integers + i);
        } else {
            found = read_number(&p, end, 0, job->doubles + i, NULL);
        }
        job->found[i] = found;
    }
    return MAPIX_OK;
}

int mapix_json_values(const mapix_map *map, const uint64_t *at, uint64_t n, uint32_t width,
                      double *doubles, int64_t *integers, uint8_t *found) {
    if (!doubles == !integers || (width && !doubles)) {
        return MAPIX_E_ARGUMENT;
    }
    values_job job = {map, at, n, width, doubles, integers, found};
    return mapix_guarded_checked(map, read_values, &job);
}
