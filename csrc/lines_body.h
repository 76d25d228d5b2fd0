/* lines_body.h - the kernels themselves, included once per instruction set by lines.c with NAME
 * and TARGET set.  Plain loops that the compiler vectorises; no intrinsics but the half float. */

TARGET static void NAME(line_u8)(void *to, size_t to_step, const uint8_t *from, size_t from_step,
                                 size_t n, float a, float b) {
    uint8_t *out = to;
    (void)a;
    (void)b;
    if (to_step == 1 && from_step == 1) {
        memcpy(out, from, n);
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
    for (size_t i = 0; i < n; i++) {
        out[i * to_step] = FMA((float)from[i * from_step], a, b);
    }
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
            HALVES(out + begin, block, m);
            continue;
        }
        HALVES(halves, block, m);
        for (size_t i = 0; i < m; i++) {
            out[(begin + i) * to_step] = halves[i];
        }
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
        HALVES(out + 3 * begin, block, 3 * m);
    }
}
