/* each_level.h - compile BODY once for each instruction set: see simd.h.  Without an include guard,
 * since a file may have several bodies. */
#define LEVEL 0
#define NAME(x) x##_plain
#define TARGET
#include BODY
#undef LEVEL
#undef NAME
#undef TARGET
#if MAPIX_LEVELS > 1
#define LEVEL 1
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt")))
#include BODY
#undef LEVEL
#undef NAME
#undef TARGET
#define LEVEL 2
#define NAME(x) x##_avx512
#define TARGET \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi,bmi2,popcnt")))
#include BODY
#undef LEVEL
#undef NAME
#undef TARGET
#endif
#undef BODY
