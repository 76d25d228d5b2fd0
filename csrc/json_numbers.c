/* json_numbers.c - arrays of numbers in JSON text, as the floats nearest to them.
 *
 * A number is read into 19 digits and a power of ten.  A double that is wrong by a few units in its
 * last place nearly always determines the nearest float.  Only if it lies that close to the middle between
 * two floats, the digits are read again, in integers of any length. */
#include "guard.h"

#include <math.h>
#include <string.h>

enum {
    MOST_DIGITS = 19,   /* that fit a uint64_t */
    EXACT_DIGITS = 120, /* the middle between two floats has no more than 113 */
    NWORDS = 40,        /* of 32 bits: 121 digits times 2^150, or 2^25 times 10^190 */
    FAR = 100000,       /* an exponent that is infinite, or nothing, whatever the digits */
};

/* What is expected next.  The caller sees MAPIX_JSON_BEGIN and MAPIX_JSON_DONE alone. */
enum {
    AT_BEGIN = MAPIX_JSON_BEGIN,
    AT_DONE = MAPIX_JSON_DONE,
    AT_FIRST_ROW = 2, /* `[` of a row, or `]` of all rows */
    AT_NEXT_ROW = 3,  /* `[` of a row */
    AT_FIRST = 4,     /* a number, or `]` of the row */
    AT_NEXT = 5,      /* a number */
    AFTER = 6,       /* `,` or `]` of the row */
    AFTER_ROW = 7,   /* `,` or `]` of all rows */
};

/* The powers of ten that a double holds exactly. */
static const double ten_to[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* A double times a power of ten, wrong by half a unit in the last place for each 22 of it. */
static double times_ten_to(double d, int64_t power) {
    for (; power > 0; power -= power < 22 ? power : 22) {
        d *= ten_to[power < 22 ? power : 22];
    }
    for (; power < 0; power += power > -22 ? -power : 22) {
        d /= ten_to[power > -22 ? -power : 22];
    }
    return d;
}

typedef struct {
    const uint8_t *text, *end; /* the digits, without sign and exponent */
    uint64_t head;             /* the first 19 digits that count */
    int64_t power;             /* of ten, that head is to be multiplied by */
    int64_t written;           /* the exponent as written */
    int negative, more;        /* more: digits after the head that are not all 0 */
} number;

static int is_digit(uint8_t c) {
    return (uint8_t)(c - '0') < 10;
}

/* --- numbers as long as it takes -------------------------------------------------------------- */

typedef struct {
    uint32_t word[NWORDS];
    unsigned n;
} whole;

static void times_plus(whole *a, uint32_t factor, uint32_t plus) {
    uint64_t carry = plus;
    for (unsigned i = 0; i < a->n; i++) {
        carry += (uint64_t)a->word[i] * factor;
        a->word[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry && a->n < NWORDS) {
        a->word[a->n++] = (uint32_t)carry;
    }
}

static void times_power(whole *a, uint32_t base, int64_t power) {
    for (; power > 0; power--) {
        times_plus(a, base, 0);
    }
}

static void times_two_to(whole *a, int64_t power) {
    times_power(a, 1u << 31, power / 31);
    times_plus(a, 1u << power % 31, 0);
}

/* below 0, 0, above 0: a is less, the same, more */
static int compared(const whole *a, const whole *b) {
    if (a->n != b->n) {
        return a->n < b->n ? -1 : 1;
    }
    for (unsigned i = a->n; i-- > 0;) {
        if (a->word[i] != b->word[i]) {
            return a->word[i] < b->word[i] ? -1 : 1;
        }
    }
    return 0;
}

/* All digits of a number; of those beyond EXACT_DIGITS only whether one is not 0. */
static int64_t all_digits(const number *x, whole *digits) {
    int64_t power = x->written;
    int counts = 0, after_dot = 0, more = 0;
    unsigned n = 0;
    *digits = (whole){{0}, 1};
    for (const uint8_t *p = x->text; p < x->end; p++) {
        if (*p == '.') {
            after_dot = 1;
            continue;
        }
        counts |= *p != '0';
        if (counts && n < EXACT_DIGITS) {
            times_plus(digits, 10, *p - '0');
            n++;
            power -= after_dot;
        } else {
            more |= *p != '0';
            power += counts ? !after_dot : -after_dot;
        }
    }
    if (more) {
        times_plus(digits, 10, 1);
        power--;
    }
    return power;
}

/* The number against the double `middle`, which is not negative. */
static int against(const number *x, double middle) {
    whole a, b = {{0}, 2};
    const int64_t tens = all_digits(x, &a);
    int twos;
    const uint64_t m = (uint64_t)ldexp(frexp(middle, &twos), 53);
    twos -= 53;
    b.word[0] = (uint32_t)m;
    b.word[1] = (uint32_t)(m >> 32);
    b.n = b.word[1] ? 2 : 1;
    times_power(tens > 0 ? &a : &b, 10, tens > 0 ? tens : -tens);
    times_two_to(twos > 0 ? &b : &a, twos > 0 ? twos : -twos);
    return compared(&a, &b);
}

/* The float nearest to the number, which `near` is within 2^-44 of. */
static float settled(const number *x, double near) {
    float below = (float)(near * (1 - 0x1p-44));
    if ((double)below > near * (1 - 0x1p-44)) {
        below = nextafterf(below, 0);
    }
    const float above = nextafterf(below, INFINITY);
    const double top = isinf(above) ? 0x1p128 : (double)above;
    const int order = against(x, ((double)below + top) / 2);
    uint32_t bits;
    memcpy(&bits, &below, sizeof bits);
    return order < 0 || (order == 0 && !(bits & 1)) ? below : above;
}

/* --- nearly always ---------------------------------------------------------------------------- */

/* Whether a double that is wrong by `slack` units in its last place determines the nearest float. */
static int tells(double d, uint64_t slack) {
    if (d >= 0x1p-126) {
        uint64_t bits;
        memcpy(&bits, &d, sizeof bits);
        const uint64_t tail = bits & 0x1fffffff, middle = 0x10000000;
        return (tail > middle ? tail - middle : middle - tail) > slack || d >= 0x1p128;
    }
    const double steps = d * 0x1p149; /* floats this small are all the same step apart */
    return fabs(steps - floor(steps) - 0.5) > steps * 0x1p-44 + 0x1p-30;
}

static float nearest(const number *x) {
    const int64_t power = x->power;
    if (x->head == 0 || power < -90) {
        return 0;
    }
    if (power > 60) {
        return INFINITY;
    }
    const int exact = !x->more && x->head <= (1ull << 53) && power >= -22 && power <= 22;
    const double d = times_ten_to((double)x->head, power);
    return tells(d, exact ? 0 : 64) ? (float)d : settled(x, d);
}

/* --- text ------------------------------------------------------------------------------------- */

static const uint8_t *some_digits(number *x, const uint8_t *p, const uint8_t *end, int after_dot) {
    for (; p < end && is_digit(*p); p++) {
        if (x->head < 1000000000000000000u) {
            x->head = x->head * 10 + (*p - '0');
            x->power -= after_dot;
        } else {
            x->more |= *p != '0';
            x->power += !after_dot;
        }
    }
    return p;
}

/* Read the number that begins at p with `-` or a digit; return the first byte after it. */
static const uint8_t *read_number(number *x, const uint8_t *p, const uint8_t *end,
                                  uint32_t grammar) {
    *x = (number){.negative = *p == '-'};
    p += x->negative;
    x->text = p;
    p = some_digits(x, p, end, 0);
    int dot = p < end && *p == '.';
    if (dot) {
        p = some_digits(x, p + 1, end, 1);
    }
    x->end = p;
    if (p < end && (*p | 32) == 'e' && (dot || grammar == MAPIX_JSON_ANY)) {
        p++;
        const int down = p < end && *p == '-';
        p += p < end && (*p == '-' || *p == '+');
        int64_t power = 0;
        for (; p < end && is_digit(*p); p++) {
            power = power < FAR ? power * 10 + (*p - '0') : FAR;
        }
        x->written = down ? -power : power;
        x->power += x->written;
    }
    return p;
}

typedef struct {
    const mapix_map *map;
    mapix_json_run *run;
    uint32_t depth, grammar;
    float *out;
    uint64_t nrows, ncolumns, stop_at;
    mapix_where *where;
} numbers_job;

static int failed(const numbers_job *job, int status, uint64_t expected, uint64_t got) {
    *job->where = (mapix_where){job->run->nrows, job->run->at, expected, got};
    return status;
}

static int take_number(numbers_job *job, const uint8_t *p, const uint8_t *end) {
    mapix_json_run *run = job->run;
    const uint64_t want = run->ncolumns;
    if (run->column >= want) {
        return failed(job, MAPIX_E_JSON_COLUMNS, want, want + 1);
    }
    number x;
    const uint8_t *after = read_number(&x, p, end, job->grammar);
    if (job->out) {
        const float f = nearest(&x);
        job->out[run->nrows * want + run->column] = x.negative ? -f : f;
        run->ninfinite += isinf(f) != 0;
    }
    run->column++;
    run->at += (uint64_t)(after - p);
    run->state = AFTER;
    return MAPIX_OK;
}

static int begin_row(numbers_job *job) {
    mapix_json_run *run = job->run;
    if (run->nrows >= job->nrows) {
        return failed(job, MAPIX_E_JSON_ROWS, job->nrows, job->nrows + 1);
    }
    run->column = 0;
    run->at++;
    run->state = AT_FIRST;
    return MAPIX_OK;
}

static int end_row(numbers_job *job) {
    mapix_json_run *run = job->run;
    if (run->ncolumns == UINT64_MAX) {
        run->ncolumns = run->column; /* all later rows must have as many */
    }
    if (run->column != run->ncolumns) {
        return failed(job, MAPIX_E_JSON_COLUMNS, run->ncolumns, run->column);
    }
    run->nrows++;
    run->at++;
    run->state = job->depth == 2 ? AFTER_ROW : AT_DONE;
    return MAPIX_OK;
}

static int end_rows(numbers_job *job) {
    if (job->nrows != UINT64_MAX && job->run->nrows != job->nrows) {
        return failed(job, MAPIX_E_JSON_ROWS, job->nrows, job->run->nrows);
    }
    job->run->at++;
    job->run->state = AT_DONE;
    return MAPIX_OK;
}

/* Handle the byte at p, which is not blank. */
static int step(numbers_job *job, const uint8_t *p, const uint8_t *end) {
    mapix_json_run *run = job->run;
    const uint32_t state = run->state;
    const uint8_t c = *p;
    if ((state == AT_FIRST || state == AT_NEXT) && (is_digit(c) || c == '-')) {
        return take_number(job, p, end);
    }
    if (c == ',' && (state == AFTER || state == AFTER_ROW)) {
        run->at++;
        run->state = state == AFTER ? AT_NEXT : AT_NEXT_ROW;
        return MAPIX_OK;
    }
    if (c == ']' && (state == AFTER || state == AT_FIRST)) {
        return end_row(job);
    }
    if (c == ']' && (state == AFTER_ROW || state == AT_FIRST_ROW)) {
        return end_rows(job);
    }
    if (c == '[' && state == AT_BEGIN && job->depth == 2) {
        run->at++;
        run->state = AT_FIRST_ROW;
        return MAPIX_OK;
    }
    if (c == '[' && (state == AT_BEGIN || state == AT_FIRST_ROW || state == AT_NEXT_ROW)) {
        return begin_row(job);
    }
    return failed(job, MAPIX_E_JSON_TOKEN, state, c);
}

static int read_numbers(void *arg) {
    numbers_job *job = arg;
    mapix_json_run *run = job->run;
    const uint8_t *base = job->map->base, *end = base + job->map->nbytes;
    while (run->state != AT_DONE && run->at < job->stop_at) {
        if (run->at >= job->map->nbytes) {
            return failed(job, MAPIX_E_JSON_TOKEN, run->state, MAPIX_JSON_END);
        }
        const uint8_t c = base[run->at];
        if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
            run->at++;
            continue;
        }
        const int status = step(job, base + run->at, end);
        if (status) {
            return status;
        }
    }
    return MAPIX_OK;
}

int mapix_json_numbers(const mapix_map *map, mapix_json_run *run, uint32_t depth, uint32_t grammar,
                       float *out, uint64_t nrows, uint64_t ncolumns, uint64_t stop_at,
                       mapix_where *where) {
    if (depth < 1 || depth > 2 || (out && (nrows == UINT64_MAX || ncolumns == UINT64_MAX))) {
        return MAPIX_E_ARGUMENT;
    }
    if (run->state == AT_BEGIN) {
        run->ncolumns = ncolumns;
    }
    numbers_job job = {map, run, depth, grammar, out, nrows, run->ncolumns, stop_at, where};
    return mapix_guarded_checked(map, read_numbers, &job);
}
