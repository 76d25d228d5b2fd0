/* permute.c - stretches of a random order. */
#include "permute.h"
#include "simd.h"

#include <string.h>

enum { VECTOR = 32, GROUP = 64 }; /* positions that go through the network side by side, and at a time */

#define BODY "permute_body.h"
#include "each_level.h"

typedef void (*step_function)(const permute_network *, uint64_t *, unsigned);

/* Positions begin, begin + 1 and so on; or those of a table, which may be `to` itself. */
static void permute(uint64_t n, uint64_t key, uint64_t begin, const int64_t *positions,
                    uint64_t count, int64_t *to) {
    const permute_network f = permute_network_of(n, key);
    const step_function step = MAPIX_AT_LEVEL(step);
    uint64_t x[GROUP] = {0}, place[GROUP] = {0}, given = 0;
    unsigned nheld = 0;
    while (nheld || given < count) {
        /* finished positions are replaced by the next ones, so that each step has a full group */
        while (nheld < GROUP && given < count) {
            x[nheld] = positions ? (uint64_t)positions[given] : begin + given;
            place[nheld++] = given++;
        }
        step(&f, x, nheld);
        unsigned nleft = 0;
        for (unsigned i = 0; i < nheld; i++) { /* without a branch, which half of them would take */
            to[place[i]] = (int64_t)x[i];      /* again, if it is not below n yet */
            x[nleft] = x[i];
            place[nleft] = place[i];
            nleft += x[i] >= n;
        }
        nheld = nleft;
    }
}

int mapix_permute(uint64_t n, uint64_t key, uint64_t begin, uint64_t count, int64_t *to) {
    if (n > INT64_MAX / 2 || begin > n || count > n - begin) {
        return MAPIX_E_ARGUMENT;
    }
    permute(n, key, begin, NULL, count, to);
    return MAPIX_OK;
}

int mapix_permute_at(uint64_t n, uint64_t key, uint64_t count, int64_t *positions) {
    if (n > INT64_MAX / 2) {
        return MAPIX_E_ARGUMENT;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (positions[i] < 0 || (uint64_t)positions[i] >= n) {
            return MAPIX_E_ARGUMENT;
        }
    }
    permute(n, key, 0, positions, count, positions);
    return MAPIX_OK;
}

_Static_assert(sizeof(permute_network) == 4 * MAPIX_NETWORK, "the header says how large it is");

int mapix_permute_network(uint64_t n, uint64_t key, uint32_t *to) {
    if (n > INT64_MAX / 2) {
        return MAPIX_E_ARGUMENT;
    }
    const permute_network f = permute_network_of(n, key);
    memcpy(to, &f, sizeof f);
    return MAPIX_OK;
}
