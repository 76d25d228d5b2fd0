/* levels.h - how many instruction sets the bodies are compiled for, and one pointer of several. */
#ifndef MAPIX_LEVELS_H
#define MAPIX_LEVELS_H

#include "mapix.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define MAPIX_LEVELS 3
/* A function as it was compiled for the level in force: see mapix_simd. */
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
