/* level.h - for which instructions a body is compiled: LEVEL is 0 plain C, 1 AVX2, 2 AVX-512, as
 * mapix_simd counts them.  No include guard: a body includes it anew for each LEVEL, and names its
 * functions by NAME and marks them with TARGET.  What MAPIX_LEVELS says how many there are. */
#undef NAME
#undef TARGET
#if LEVEL == 0
#define NAME(x) x##_plain
#define TARGET
#elif LEVEL == 1
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#else
#define NAME(x) x##_avx512
#define TARGET \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,bmi,bmi2,popcnt")))
#endif
