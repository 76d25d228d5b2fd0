/* fuzz_json.c - arrays of numbers in JSON text, beside a reader that goes down brackets by recursion
 * and leaves the rounding to strtof; and floats as text.
 *
 * The first four bytes of an input say how it is read (depth, grammar, shape known or not, step); the
 * rest is the text. */
#include "fuzz.h"

#include <ctype.h>
#include <math.h>

enum { MOST_NUMBERS = 4096, ANY_NUMBER = 1 << 30 };

typedef struct {
    const uint8_t *text;
    uint64_t nbytes, at;
    unsigned any;
    uint64_t nrows, ncolumns; /* asked for, or ANY_NUMBER */
    uint64_t row, column;
    float values[MOST_NUMBERS];
    uint64_t nvalues;
    int status;
    uint64_t expected, got;
} slow_text;

static int stop(slow_text *t, int status, uint64_t expected, uint64_t got) {
    t->status = status;
    t->expected = expected;
    t->got = got;
    return 0;
}

static unsigned ahead(slow_text *t) {
    while (t->at < t->nbytes && is_one_of(t->text[t->at], " \t\r\n")) {
        t->at++;
    }
    return t->at < t->nbytes ? t->text[t->at] : MAPIX_JSON_END;
}

/* One of `wanted` is next, or it stops, telling `state`. */
static unsigned want(slow_text *t, uint64_t state, const char *wanted) {
    const unsigned c = ahead(t);
    if (c == MAPIX_JSON_END || !is_one_of((uint8_t)c, wanted)) {
        return (unsigned)stop(t, MAPIX_E_JSON_TOKEN, state, c);
    }
    return c;
}

static uint64_t digits(slow_text *t, char *to, uint64_t *n) {
    const uint64_t begin = *n;
    while (t->at < t->nbytes && isdigit(t->text[t->at])) {
        to[(*n)++] = (char)t->text[t->at++];
    }
    return *n - begin;
}

static int meets(const slow_text *t, const char *some) {
    return t->at < t->nbytes && is_one_of(t->text[t->at], some);
}

/* The number that begins here, spelt out as strtof wants it. */
static float spelt(slow_text *t) {
    char *whole = block(t->nbytes - t->at + 64);
    uint64_t n = 0;
    int dot = 0;
    if (meets(t, "-")) {
        whole[n++] = '-';
        t->at++;
    }
    whole[n++] = '0';
    digits(t, whole, &n);
    if (meets(t, ".")) {
        dot = 1;
        t->at++;
        whole[n++] = '.';
        digits(t, whole, &n);
        whole[n++] = '0';
    }
    if ((dot || t->any) && meets(t, "eE")) {
        t->at++;
        whole[n++] = 'e';
        if (meets(t, "+-")) {
            whole[n++] = (char)t->text[t->at++];
        }
        if (digits(t, whole, &n) == 0) {
            whole[n++] = '0';
        }
    }
    whole[n] = 0;
    const float f = strtof(whole, NULL);
    free(whole);
    return f;
}

static int slow_row(slow_text *t, uint64_t state) {
    if (!want(t, state, "[")) {
        return 0;
    }
    if (t->nrows != ANY_NUMBER && t->row >= t->nrows) {
        return stop(t, MAPIX_E_JSON_ROWS, t->nrows, t->nrows + 1);
    }
    t->at++;
    t->column = 0;
    for (int first = 1;; first = 0) {
        const unsigned c = want(t, first ? 4 : 5, first ? "-0123456789]" : "-0123456789");
        if (!c) {
            return 0;
        }
        if (c == ']') {
            break;
        }
        if (t->ncolumns != ANY_NUMBER && t->column >= t->ncolumns) {
            return stop(t, MAPIX_E_JSON_COLUMNS, t->ncolumns, t->ncolumns + 1);
        }
        const float f = spelt(t);
        if (t->nvalues < MOST_NUMBERS) {
            t->values[t->nvalues++] = f;
        }
        t->column++;
        const unsigned d = want(t, 6, ",]");
        if (!d) {
            return 0;
        }
        if (d == ']') {
            break;
        }
        t->at++;
    }
    if (t->ncolumns == ANY_NUMBER) {
        t->ncolumns = t->column;
    }
    if (t->column != t->ncolumns) {
        return stop(t, MAPIX_E_JSON_COLUMNS, t->ncolumns, t->column);
    }
    t->at++;
    t->row++;
    return 1;
}

static void slow_array(slow_text *t, unsigned depth) {
    if (depth == 1) {
        slow_row(t, 0);
        return;
    }
    if (!want(t, 0, "[")) {
        return;
    }
    t->at++;
    unsigned c = want(t, 2, "[]");
    for (int first = 1; c == '[' || c == ','; first = 0) {
        t->at += c == ',';
        if (!slow_row(t, first ? 2 : 3)) {
            return;
        }
        c = want(t, 7, ",]");
    }
    if (!c) {
        return;
    }
    if (t->nrows != ANY_NUMBER && t->row != t->nrows) {
        stop(t, MAPIX_E_JSON_ROWS, t->nrows, t->row);
        return;
    }
    t->at++;
}

static uint64_t size_of(uint64_t n) {
    return n == ANY_NUMBER ? UINT64_MAX : n;
}

/* The core in calls of `step` bytes, beside what the slow one found. */
static void check(const mapix_map *map, const slow_text *t, unsigned depth, uint64_t nrows,
                  uint64_t ncolumns, float *out, uint64_t step) {
    mapix_json_run run = {0};
    mapix_where where = {9, 9, 9, 9};
    int status = MAPIX_OK;
    while (!status && run.state != MAPIX_JSON_DONE) {
        const uint64_t before = run.at;
        status = mapix_json_numbers(map, &run, depth, t->any, out, size_of(nrows),
                                    size_of(ncolumns), run.at + step, &where);
        CHECK(status || run.state == MAPIX_JSON_DONE || run.at >= before + step);
    }
    CHECK(status == t->status && run.at == t->at && run.nrows == t->row);
    if (status) {
        CHECK(where.record == t->row && where.at == t->at);
        CHECK(where.expected == t->expected && where.got == t->got);
        CHECK(run.column == t->column);
    } else {
        CHECK(t->row == 0 || run.ncolumns == t->ncolumns);
    }
}

/* The caller's mistakes are reported, and nothing is written. */
static void check_mistakes(const mapix_map *map) {
    const mapix_json_run fresh = {0};
    const struct {
        uint32_t depth;
        int with_out;
        uint64_t nrows, ncolumns;
    } wrong[5] = {{0, 0, 1, 1}, {3, 0, 1, 1}, {1, 1, UINT64_MAX, 1}, {2, 1, 1, UINT64_MAX},
                  {2, 1, UINT64_MAX, UINT64_MAX}};
    for (int k = 0; k < 5; k++) {
        mapix_json_run run = fresh;
        mapix_where where;
        float out[1];
        CHECK(mapix_json_numbers(map, &run, wrong[k].depth, MAPIX_JSON_ANY,
                                 wrong[k].with_out ? out : NULL, wrong[k].nrows,
                                 wrong[k].ncolumns, UINT64_MAX, &where) == MAPIX_E_ARGUMENT);
        CHECK(memcmp(&run, &fresh, sizeof run) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    input in = {data, nbytes};
    const unsigned how = take(&in), rows = take(&in), columns = take(&in);
    const uint64_t step = 1 + (uint64_t)take(&in) * (how & 8 ? 64 : 1);
    static slow_text t;
    t = (slow_text){.nbytes = in.left, .any = how & 1 ? MAPIX_JSON_ANY : MAPIX_JSON_ORIGINAL};
    const unsigned depth = how & 2 ? 2 : 1;
    uint8_t *text = block(in.left);
    memcpy(text, in.next, in.left);
    const mapix_map map = {.base = text, .nbytes = in.left, .fd = -1};
    t.text = text;
    const int known = how & 4;
    const uint64_t nrows = depth == 1 ? 1 : known ? rows & 15 : ANY_NUMBER;
    const uint64_t ncolumns = known ? columns & 31 : ANY_NUMBER;
    t.nrows = nrows;
    t.ncolumns = ncolumns;
    slow_array(&t, depth);
    check(&map, &t, depth, nrows, ncolumns, NULL, step);
    if (known) {
        float *out = block(nrows * ncolumns * sizeof *out);
        check(&map, &t, depth, nrows, ncolumns, out, step);
        CHECK(t.nvalues <= MOST_NUMBERS);
        CHECK(t.nvalues == 0 || memcmp(out, t.values, t.nvalues * sizeof *out) == 0);
        free(out);
    }
    check_mistakes(&map);
    free(text);
    return 0;
}
