/* json_write.c - floats as the shortest JSON numbers that give them back. */
#include "json.h"

#include <math.h>
#include <string.h>

enum {
    FIRST_TRY = 6, /* digits: where fewer do, these end in zeros, which are left out */
    LAST_TRY = 10, /* nine are enough for any float, and the tenth for what rounding has lost */
    PLAIN_FROM = -5, PLAIN_BELOW = 16, /* exponents that are written as zeros */
};

typedef struct {
    char digit[LAST_TRY];
    int n;        /* of them, the last is not 0 */
    int exponent; /* of the first */
} decimal;

static char *put(char *to, const char *some, int n) {
    memcpy(to, some, (size_t)n);
    return to + n;
}

static char *zeros(char *to, int n) {
    for (; n > 0; n--) {
        *to++ = '0';
    }
    return to;
}

/* The number of `n` digits nearest to d > 0, which lies between 10^exponent and about ten times it. */
static void rounded(double d, int exponent, int n, decimal *x) {
    uint64_t whole = (uint64_t)(mapix_times_ten_to(d, n - 1 - exponent) + 0.5);
    if (whole >= (uint64_t)mapix_ten_to[n]) {
        whole /= 10;
        exponent++;
    }
    for (int i = n; i-- > 0; whole /= 10) {
        x->digit[i] = (char)('0' + whole % 10);
    }
    for (x->n = n; x->n > 1 && x->digit[x->n - 1] == '0';) {
        x->n--;
    }
    x->exponent = exponent;
}

static char *spelt(const decimal *x, char *to) {
    const int e = x->exponent;
    if (e >= 0 && e < PLAIN_BELOW) {
        const int before = x->n < e + 1 ? x->n : e + 1;
        to = zeros(put(to, x->digit, before), e + 1 - before);
        *to++ = '.';
        return x->n > before ? put(to, x->digit + before, x->n - before) : zeros(to, 1);
    }
    if (e < 0 && e >= PLAIN_FROM) {
        to = zeros(put(to, "0.", 2), -e - 1);
        return put(to, x->digit, x->n);
    }
    to = put(put(to, x->digit, 1), ".", 1);
    to = x->n > 1 ? put(to, x->digit + 1, x->n - 1) : zeros(to, 1);
    to = put(to, e < 0 ? "e-" : "e+", 2);
    *to++ = (char)('0' + (e < 0 ? -e : e) / 10);
    *to++ = (char)('0' + (e < 0 ? -e : e) % 10);
    return to;
}

/* The floor of the decimal logarithm of d > 0. */
static int exponent_of(double d) {
    int twos;
    frexp(d, &twos);
    int e = (int)floor((twos - 1) * 0.30102999566398120);
    while (mapix_times_ten_to(d, -e) >= 10) {
        e++;
    }
    return e;
}

static char *written(float f, char *to) {
    if (signbit(f)) {
        *to++ = '-';
    }
    const float a = fabsf(f);
    if (a == 0) {
        return put(to, "0.0", 3);
    }
    if (isinf(a)) {
        return put(to, "1.0e999", 7);
    }
    const int exponent = exponent_of((double)a);
    char *end = to;
    float back = 0;
    for (int n = a < 0x1p-126f ? 1 : FIRST_TRY; n <= LAST_TRY && back != a; n++) {
        decimal x;
        rounded((double)a, exponent, n, &x);
        end = spelt(&x, to);
        mapix_json_number((const uint8_t *)to, (const uint8_t *)end, MAPIX_JSON_ORIGINAL, &back);
    }
    return end;
}

int mapix_json_write(const float *numbers, uint64_t n, uint8_t *out, uint64_t room,
                     uint64_t *nbytes) {
    if (n > room / MAPIX_JSON_ROOM) {
        return MAPIX_E_ARGUMENT;
    }
    char *to = (char *)out;
    for (uint64_t i = 0; i < n; i++) {
        if (isnan(numbers[i])) {
            return MAPIX_E_ARGUMENT;
        }
        to = written(numbers[i], i ? put(to, ", ", 2) : to);
    }
    *nbytes = (uint64_t)(to - (char *)out);
    return MAPIX_OK;
}
