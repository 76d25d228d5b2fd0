/* lines.c - see lines.h. */
#include "lines.h"
#include "simd.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* What a group of cores commonly has as last cache.  A constant, because the C library may report the sum over
 * all groups: 320 MiB where a core has 32. */
enum { LAST_CACHE_NBYTES = 32 << 20, STREAMED_NBYTES = 64 };

static atomic_uint_fast64_t stream_from = LAST_CACHE_NBYTES;

uint64_t mapix_stream(uint64_t nbytes) {
    if (nbytes) {
        atomic_store(&stream_from, nbytes);
    }
    return atomic_load(&stream_from);
}

uint16_t mapix_half(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) { /* NaN: quiet, top bits of the payload kept */
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x1ff));
    }
    if (magnitude >= 0x477ff000) { /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    }
    if (magnitude < 0x38800000) { /* below the least normal half: count in units of 2^-24 */
        float value;
        memcpy(&value, &magnitude, 4);
        return (uint16_t)(sign | (uint16_t)lrintf(value * 16777216.0f));
    }
    const uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | ((magnitude + 0xfff + odd - (UINT32_C(112) << 23)) >> 13));
}

void mapix_fill(void *canvas, uint64_t nbytes, uint32_t dtype, float value) {
    if (dtype == MAPIX_U8) { /* a float out of range has no defined value in C; NaN is 0 here */
        memset(canvas, value >= 255.0f ? 255 : value > 0.0f ? (int)value : 0, nbytes);
    } else if (value == 0.0f) {
        memset(canvas, 0, nbytes);
    } else if (dtype == MAPIX_F32) {
        float *to = canvas;
        for (uint64_t i = 0; i < nbytes / 4; i++) {
            to[i] = value;
        }
    } else {
        uint16_t *to = canvas;
        const uint16_t half = mapix_half(value);
        for (uint64_t i = 0; i < nbytes / 2; i++) {
            to[i] = half;
        }
    }
}

#define BODY "lines_body.h"
#include "each_level.h"

const mapix_kernels *mapix_kernels_now(void) {
    return MAPIX_AT_LEVEL(&kernels);
}
