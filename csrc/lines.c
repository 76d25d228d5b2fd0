/* lines.c - see lines.h. */
#include "lines.h"
#include "simd.h"

#include <math.h>
#include <string.h>

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

#define BODY "lines_body.h"
#include "each_level.h"

const mapix_kernels *mapix_kernels_now(void) {
    return MAPIX_AT_LEVEL(&kernels);
}
