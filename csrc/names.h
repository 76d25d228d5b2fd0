/* names.h - hashes of names: see mapix_name_hashes. */
#ifndef MAPIX_NAMES_H
#define MAPIX_NAMES_H

#include <stdint.h>
#include <string.h>

static inline uint64_t mix(uint64_t a, uint64_t b) {
    const unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Seeded, so that a file cannot be made whose names all have the same slot. */
static inline uint64_t hash_bytes(const uint8_t *p, uint64_t nbytes, uint64_t seed) {
    uint64_t hash = seed ^ nbytes * UINT64_C(0x9e3779b97f4a7c15);
    for (; nbytes >= 8; nbytes -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        hash = mix(hash ^ word, UINT64_C(0xa0761d6478bd642f));
    }
    uint64_t word = 0;
    for (uint64_t k = 0; k < nbytes; k++) {
        word |= (uint64_t)p[k] << (8 * k);
    }
    return mix(hash ^ word, UINT64_C(0xe7037ed1a0b428db));
}

#endif
