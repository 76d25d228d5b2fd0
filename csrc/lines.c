/* lines.c - see lines.h. */
#include "lines.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* Round to nearest even, as the hardware does. */
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

static void halves_plain(uint16_t *to, const float *from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        to[i] = mapix_half(from[i]);
    }
}

static void triple_u8_plain(void *to, const uint8_t *from, size_t plane, size_t n,
                            const float *affine) {
    uint8_t *restrict out = to;
    (void)affine;
    for (size_t i = 0; i < n; i++) {
        out[3 * i] = from[i];
        out[3 * i + 1] = from[plane + i];
        out[3 * i + 2] = from[2 * plane + i];
    }
}

#define NAME(x) x##_plain
#define TARGET
#define FMA(x, a, b) fmaf((x), (a), (b))
#define HALVES halves_plain
#include "lines_body.h"
#undef NAME
#undef TARGET
#undef HALVES

static const mapix_kernels plain = {{line_u8_plain, line_f32_plain, line_f16_plain},
                                    {triple_u8_plain, triple_f32_plain, triple_f16_plain}};

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))

AVX2 static void halves_avx2(uint16_t *to, const float *from, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm_storeu_si128((__m128i *)(void *)(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    }
    halves_plain(to + i, from + i, n - i);
}

/* Sixteen bytes of each plane to 48 interleaved: three shuffles a vector, or-ed together. */
AVX2 static void triple_u8_avx2(void *to, const uint8_t *from, size_t plane, size_t n,
                                const float *affine) {
    uint8_t *out = to;
    const __m128i first[3] = {
        _mm_setr_epi8(0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5),
        _mm_setr_epi8(-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1),
        _mm_setr_epi8(-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1)};
    const __m128i second[3] = {
        _mm_setr_epi8(-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1),
        _mm_setr_epi8(5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10),
        _mm_setr_epi8(-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1)};
    const __m128i third[3] = {
        _mm_setr_epi8(-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1),
        _mm_setr_epi8(-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1),
        _mm_setr_epi8(10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15)};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128i one = _mm_setzero_si128(), two = one, three = one;
        for (int k = 0; k < 3; k++) {
            const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(from + (size_t)k * plane + i));
            one = _mm_or_si128(one, _mm_shuffle_epi8(v, first[k]));
            two = _mm_or_si128(two, _mm_shuffle_epi8(v, second[k]));
            three = _mm_or_si128(three, _mm_shuffle_epi8(v, third[k]));
        }
        _mm_storeu_si128((__m128i *)(void *)(out + 3 * i), one);
        _mm_storeu_si128((__m128i *)(void *)(out + 3 * i + 16), two);
        _mm_storeu_si128((__m128i *)(void *)(out + 3 * i + 32), three);
    }
    triple_u8_plain(out + 3 * i, from + i, plane, n - i, affine);
}

#undef FMA
#define FMA(x, a, b) __builtin_fmaf((x), (a), (b))

#define NAME(x) x##_avx2
#define TARGET AVX2
#define HALVES halves_avx2
#include "lines_body.h"
#undef NAME
#undef TARGET

#define NAME(x) x##_avx512
#define TARGET AVX512
#include "lines_body.h"
#undef NAME
#undef TARGET

static const mapix_kernels avx2 = {{line_u8_avx2, line_f32_avx2, line_f16_avx2},
                                   {triple_u8_avx2, triple_f32_avx2, triple_f16_avx2}};
static const mapix_kernels avx512 = {{line_u8_avx512, line_f32_avx512, line_f16_avx512},
                                     {triple_u8_avx2, triple_f32_avx512, triple_f16_avx512}};

static int best_level(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("f16c") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("popcnt")) {
        return 0;
    }
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
               ? 2
               : 1;
}

static const mapix_kernels *const levels[3] = {&plain, &avx2, &avx512};
#else
static int best_level(void) {
    return 0;
}

static const mapix_kernels *const levels[3] = {&plain, &plain, &plain};
#endif

static atomic_int level_now = -1;

int mapix_simd(int level) {
    int now = atomic_load_explicit(&level_now, memory_order_relaxed);
    if (now < 0 || level >= 0) {
        const int best = best_level();
        now = level < 0 || level > best ? best : level;
        atomic_store_explicit(&level_now, now, memory_order_relaxed);
    }
    return now;
}

const mapix_kernels *mapix_kernels_now(void) {
    return levels[mapix_simd(-1)];
}
