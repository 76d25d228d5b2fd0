/* simd.h - kernels compiled for several instruction sets, and which of them runs.
 *
 * A kernel that gains from vector instructions lies in a file `*_body.h`.  Such a file names its functions
 * NAME(x), marks them TARGET, and is compiled once per level by
 *
 *     #define BODY "x_body.h"
 *     #include "each_level.h"
 *
 * LEVEL is 0 for plain C, 1 for AVX2, 2 for AVX-512, as mapix_simd counts them. */
#ifndef MAPIX_SIMD_H
#define MAPIX_SIMD_H

#include "mapix.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define MAPIX_LEVELS 3
/* The function or object x as it was compiled for the level in force. */
#define MAPIX_AT_LEVEL(x) \
    (mapix_simd(-1) == 2 ? x##_avx512 : mapix_simd(-1) == 1 ? x##_avx2 : x##_plain)
#else
#define MAPIX_LEVELS 1
#define MAPIX_AT_LEVEL(x) x##_plain
#endif

#if defined(__GNUC__)
#define MAPIX_INLINE static inline __attribute__((always_inline))
#else
#define MAPIX_INLINE static inline
#endif

#endif
