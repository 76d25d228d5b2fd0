/* lines_body.h - the kernels of lines.h; see simd.h.  Loops that the compiler vectorises, with
 * intrinsics only where it does not. */
#if LEVEL == 0
#define FMA(x, a, b) fmaf((x), (a), (b))
#elif LEVEL == 1
/* A line of the cache: 16 bytes become 16 floats. */
#define STREAM_8(to, bytes, a, b)                                                              \
    _mm256_stream_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),      \
                                         _mm256_set1_ps(a), _mm256_set1_ps(b)))
#define STREAM(to, bytes, a, b)           \
    STREAM_8(to, bytes, a, b);            \
    STREAM_8((to) + 8, _mm_srli_si128(bytes, 8), a, b)
#else
#define STREAM(to, bytes, a, b)                                                                \
    _mm512_stream_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)),      \
                                         _mm512_set1_ps(a), _mm512_set1_ps(b)))
#endif
#if LEVEL > 0
#define FMA(x, a, b) __builtin_fmaf((x), (a), (b))
/* Bytes j to j + 15 of triples, of three vectors of 16 pixels. */
#define PIXEL(channel, j) (char)((j) % 3 == (channel) ? (j) / 3 : -1)
#define PIXELS_4(k, j) PIXEL(k, j), PIXEL(k, (j) + 1), PIXEL(k, (j) + 2), PIXEL(k, (j) + 3)
#define PICK(x, k, j)                                                                         \
    _mm_shuffle_epi8(x, _mm_setr_epi8(PIXELS_4(k, j), PIXELS_4(k, (j) + 4), PIXELS_4(k, (j) + 8), \
                                      PIXELS_4(k, (j) + 12)))
#define STORE_16(to, j, x, y, z)                                                 \
    _mm_storeu_si128((__m128i *)(void *)((to) + (j)),                            \
                     _mm_or_si128(PICK(x, 0, j), _mm_or_si128(PICK(y, 1, j), PICK(z, 2, j))))
#endif

TARGET static void NAME(halves)(uint16_t *to, const float *from, size_t n) {
    size_t i = 0;
#if LEVEL > 0
    for (; i + 8 <= n; i += 8) {
        _mm_storeu_si128((__m128i *)(void *)(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    }
#endif
    for (; i < n; i++) {
        to[i] = mapix_half(from[i]);
    }
}

TARGET static void NAME(line_u8)(void *to, size_t to_step, const uint8_t *from, size_t from_step,
                                 size_t n, float a, float b) {
    uint8_t *restrict out = to;
    (void)a;
    (void)b;
    if (to_step == 1 && from_step == 1) {
        memcpy(out, from, n);
        return;
    }
    if (to_step == 1 && from_step == 3) { /* a step that the compiler knows becomes vector instructions */
        for (size_t i = 0; i < n; i++) {
            out[i] = from[3 * i];
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        out[i * to_step] = from[i * from_step];
    }
}

TARGET static void NAME(line_f32)(void *to, size_t to_step, const uint8_t *from, size_t from_step,
                                  size_t n, float a, float b) {
    float *restrict out = to;
    if (to_step == 1 && from_step == 1) {
        for (size_t i = 0; i < n; i++) {
            out[i] = FMA((float)from[i], a, b);
        }
        return;
    }
    if (to_step == 1 && from_step == 3) {
        for (size_t i = 0; i < n; i++) {
            out[i] = FMA((float)from[3 * i], a, b);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        out[i * to_step] = FMA((float)from[i * from_step], a, b);
    }
}

/* What is larger than the last cache is in memory in the end: writing it there at once saves reading the
 * lines first, and leaves the cache to others. */
TARGET static void NAME(stream_f32)(void *to, size_t to_step, const uint8_t *from, size_t from_step,
                                    size_t n, float a, float b) {
    float *restrict out = to;
    size_t i = 0;
    (void)to_step;
    (void)from_step;
#if LEVEL > 0
    for (; i < n && (uintptr_t)(out + i) % STREAMED_NBYTES; i++) {
        out[i] = FMA((float)from[i], a, b);
    }
    for (; i + STREAMED_NBYTES / 4 <= n; i += STREAMED_NBYTES / 4) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(from + i));
        STREAM(out + i, bytes, a, b);
    }
    _mm_sfence();
#endif
    for (; i < n; i++) {
        out[i] = FMA((float)from[i], a, b);
    }
}

/* The same for bytes as they are. */
TARGET static void NAME(stream_u8)(void *to, size_t to_step, const uint8_t *from, size_t from_step,
                                   size_t n, float a, float b) {
    uint8_t *out = to;
    size_t i = 0;
    (void)to_step;
    (void)from_step;
    (void)a;
    (void)b;
#if LEVEL > 0
    const size_t before = -(uintptr_t)out % STREAMED_NBYTES;
    i = before < n ? before : n;
    memcpy(out, from, i);
    for (; i + STREAMED_NBYTES <= n; i += STREAMED_NBYTES) {
        for (size_t k = 0; k < STREAMED_NBYTES; k += 32) {
            _mm256_stream_si256((__m256i *)(void *)(out + i + k),
                                _mm256_loadu_si256((const __m256i *)(const void *)(from + i + k)));
        }
    }
    _mm_sfence();
#endif
    memcpy(out + i, from + i, n - i);
}

TARGET static void NAME(line_f16)(void *to, size_t to_step, const uint8_t *from, size_t from_step,
                                  size_t n, float a, float b) {
    uint16_t *restrict out = to;
    float block[64];
    uint16_t halves[64];
    for (size_t begin = 0; begin < n; begin += 64) {
        const size_t m = n - begin < 64 ? n - begin : 64;
        NAME(line_f32)(block, 1, from + begin * from_step, from_step, m, a, b);
        if (to_step == 1) {
            NAME(halves)(out + begin, block, m);
            continue;
        }
        NAME(halves)(halves, block, m);
        for (size_t i = 0; i < m; i++) {
            out[(begin + i) * to_step] = halves[i];
        }
    }
}

TARGET static void NAME(triple_u8)(void *to, const uint8_t *from, size_t plane, size_t n,
                                   const float *affine) {
    uint8_t *out = to;
    size_t i = 0;
    (void)affine;
#if LEVEL > 0
    /* 48 bytes at a time; byte j is of channel j % 3 and pixel j / 3.  On lines of 16 to 64 pixels this is
     * a tenth faster than what the compiler makes of the loop below. */
    for (; i + 16 <= n; i += 16, out += 48) {
        const __m128i first = _mm_loadu_si128((const __m128i *)(const void *)(from + i));
        const __m128i second = _mm_loadu_si128((const __m128i *)(const void *)(from + plane + i));
        const __m128i third = _mm_loadu_si128((const __m128i *)(const void *)(from + 2 * plane + i));
        STORE_16(out, 0, first, second, third);
        STORE_16(out, 16, first, second, third);
        STORE_16(out, 32, first, second, third);
    }
#endif
    for (; i < n; i++, out += 3) {
        out[0] = from[i];
        out[1] = from[plane + i];
        out[2] = from[2 * plane + i];
    }
}

TARGET static void NAME(triple_f32)(void *to, const uint8_t *from, size_t plane, size_t n,
                                    const float *affine) {
    float *restrict out = to;
    const float a0 = affine[0], b0 = affine[1], a1 = affine[2], b1 = affine[3];
    const float a2 = affine[4], b2 = affine[5];
    for (size_t i = 0; i < n; i++) {
        out[3 * i] = FMA((float)from[i], a0, b0);
        out[3 * i + 1] = FMA((float)from[plane + i], a1, b1);
        out[3 * i + 2] = FMA((float)from[2 * plane + i], a2, b2);
    }
}

TARGET static void NAME(triple_f16)(void *to, const uint8_t *from, size_t plane, size_t n,
                                    const float *affine) {
    uint16_t *restrict out = to;
    float block[3 * 32];
    for (size_t begin = 0; begin < n; begin += 32) {
        const size_t m = n - begin < 32 ? n - begin : 32;
        NAME(triple_f32)(block, from + begin, plane, m, affine);
        NAME(halves)(out + 3 * begin, block, 3 * m);
    }
}

/* Neither side is aligned; the compiler makes vector instructions of these. */
#define SWAP(name, type, reversed)                                                              \
    TARGET static void name(uint8_t *restrict to, const uint8_t *restrict from, uint64_t nbytes) { \
        for (uint64_t i = 0; i < nbytes; i += sizeof(type)) {                                   \
            type x;                                                                             \
            memcpy(&x, from + i, sizeof x);                                                     \
            x = reversed(x);                                                                    \
            memcpy(to + i, &x, sizeof x);                                                       \
        }                                                                                       \
    }
SWAP(NAME(swap_2), uint16_t, __builtin_bswap16)
SWAP(NAME(swap_4), uint32_t, __builtin_bswap32)
SWAP(NAME(swap_8), uint64_t, __builtin_bswap64)

static const mapix_kernels NAME(kernels) = {
    {NAME(line_u8), NAME(line_f32), NAME(line_f16)},
    {NAME(triple_u8), NAME(triple_f32), NAME(triple_f16)},
    {[2] = NAME(swap_2), [4] = NAME(swap_4), [8] = NAME(swap_8)},
    {NAME(stream_u8), NAME(stream_f32)},
};

#undef FMA
#undef STREAM
#undef STREAM_8
#undef SWAP
#undef PIXEL
#undef PIXELS_4
#undef PICK
#undef STORE_16
