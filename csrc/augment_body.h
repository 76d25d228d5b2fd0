/* augment_body.h - pixels in reverse order; see simd.h. */

/* Copy n pixels of c bytes, the last one first.  Up to 15 bytes after the last one may be written, too. */
TARGET static void NAME(reverse)(uint8_t *to, const uint8_t *from, size_t n, size_t c) {
    const size_t nbytes = n * c;
    size_t done = 0;
#if LEVEL > 0
    if (c <= 4) {
        const __m128i order = _mm_loadu_si128((const __m128i *)(const void *)reversing[c]);
        uint8_t last[16] = {0};
        /* as many pixels as 16 bytes hold: those before the ones that were copied last */
        for (const size_t step = 16 / c * c; done < nbytes; done += step) {
            const size_t left = nbytes - done;
            const uint8_t *end = left >= 16 ? from + (left - 16) : last;
            if (left < 16 && nbytes >= 16 && 16 % c == 0) {
                done = nbytes - 16; /* again some that were copied already */
                end = from;
            } else if (left < 16) {
                memcpy(last + 16 - left, from, left);
            }
            _mm_storeu_si128((__m128i *)(void *)(to + done),
                             _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)end), order));
        }
        return;
    }
#endif
    for (; done < nbytes; done += c) {
        for (size_t k = 0; k < c; k++) {
            to[done + k] = from[nbytes - done - c + k];
        }
    }
}

/* Replace x by its mixture with y, and y by its mixture with x. */
TARGET static void NAME(mix)(float *restrict x, float *restrict y, size_t n, float share_x, float share_y) {
    const float rest_x = 1.0f - share_x, rest_y = 1.0f - share_y;
    for (size_t i = 0; i < n; i++) {
        const float a = x[i], b = y[i];
        x[i] = a * share_x + b * rest_x;
        y[i] = b * share_y + a * rest_y;
    }
}
