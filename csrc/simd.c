/* simd.c - which instruction set the kernels use. */
#include "simd.h"

#include <stdatomic.h>

#if MAPIX_LEVELS > 1
#include <cpuid.h>

/* __builtin_cpu_supports of clang before 16 does not know this one. */
static int has_f16c(void) {
    unsigned eax, ebx, ecx = 0, edx;
    const int known = __get_cpuid(1, &eax, &ebx, &ecx, &edx);
    return known & !!(ecx & bit_F16C);
}
#endif

static int best_level(void) {
#if MAPIX_LEVELS > 1
    __builtin_cpu_init();
    /* No branches, of which a machine could take one only. */
    const int avx2 = !!__builtin_cpu_supports("avx2") & !!__builtin_cpu_supports("fma") &
                     !!__builtin_cpu_supports("bmi") & !!__builtin_cpu_supports("bmi2") &
                     !!__builtin_cpu_supports("popcnt") & has_f16c();
    const int avx512 = !!__builtin_cpu_supports("avx512f") & !!__builtin_cpu_supports("avx512bw") &
                       !!__builtin_cpu_supports("avx512vl") & !!__builtin_cpu_supports("avx512dq");
    return avx2 + (avx2 & avx512);
#else
    return 0;
#endif
}

static atomic_int level_now = -1, level_known = -1; /* a virtual machine takes microseconds for cpuid */

int mapix_simd(int level) {
    int now = atomic_load_explicit(&level_now, memory_order_relaxed);
    if (now < 0 || level >= 0) {
        int best = atomic_load_explicit(&level_known, memory_order_relaxed);
        if (best < 0) {
            best = best_level();
            atomic_store_explicit(&level_known, best, memory_order_relaxed);
        }
        now = level < 0 || level > best ? best : level;
        atomic_store_explicit(&level_now, now, memory_order_relaxed);
    }
    return now;
}

const char *mapix_compiler(void) {
#ifdef __clang__
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}
