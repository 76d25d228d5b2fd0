/* crc32c.c - CRC32C: a table for any machine, the SSE4.2 instruction where there is one. */
#include "mapix.h"

#include <stdatomic.h>
#include <string.h>

static uint32_t table_step(uint32_t crc, const uint8_t *p, uint64_t nbytes) {
    /* One nibble at a time: 64 bytes of table, and no table to build at run time. */
    static const uint32_t nibble[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    for (uint64_t i = 0; i < nbytes; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return crc;
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <nmmintrin.h>

__attribute__((target("sse4.2,crc32"))) static uint32_t hardware_step(uint32_t crc, const uint8_t *p,
                                                                 uint64_t nbytes) {
    uint64_t wide = crc;
    for (; nbytes >= 8; nbytes -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    crc = (uint32_t)wide;
    for (; nbytes; nbytes--, p++) {
        crc = _mm_crc32_u8(crc, *p);
    }
    return crc;
}
#endif

uint32_t mapix_crc32c(const void *data, uint64_t nbytes, uint32_t crc) {
    crc = ~crc;
#if defined(__x86_64__) && defined(__GNUC__)
    if (mapix_simd(-1) > 0) { /* AVX2 machines all have SSE4.2 */
        return ~hardware_step(crc, data, nbytes);
    }
#endif
    return ~table_step(crc, data, nbytes);
}

void mapix_crc32c_blocks(const void *data, uint64_t nbytes, uint64_t block, uint32_t *crcs) {
    const uint8_t *p = data;
    for (uint64_t at = 0, k = 0; at < nbytes; at += block, k++) {
        const uint64_t n = nbytes - at < block ? nbytes - at : block;
        const uint32_t crc = mapix_crc32c(p + at, n, 0);
        crcs[k] = crc ? crc : 1;
    }
}
