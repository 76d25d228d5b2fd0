/* lines.h - how a line of pixels gets from the file into a batch.
 *
 * A line is n pixels of one channel, read with one step and written with another, so that the four
 * ways between planar and interleaved are one function.  The kernels for each output type live in
 * lines.c, once as plain C and compiled again for AVX2 and AVX-512; which one runs is chosen when
 * the process first asks. */
#ifndef MAPIX_LINES_H
#define MAPIX_LINES_H

#include "mapix.h"

#include <stddef.h>

/* n values from `from` (every from_step-th byte) to `to` (every to_step-th element), as
 * fma(byte, a, b) rounded once to float32, and once more to float16 where that is the output;
 * bytes stay bytes. */
typedef void (*line_fn)(void *to, size_t to_step, const uint8_t *from, size_t from_step, size_t n,
                        float a, float b);

/* n pixels of three planes, `plane` bytes apart, to interleaved triples; affine is 3 x (a, b). */
typedef void (*triple_fn)(void *to, const uint8_t *from, size_t plane, size_t n,
                          const float *affine);

typedef struct {
    line_fn line[3];     /* by MAPIX_U8, MAPIX_F32, MAPIX_F16 */
    triple_fn triple[3];
} mapix_kernels;

/* The kernels in force. */
const mapix_kernels *mapix_kernels_now(void);

/* One value as the output type stores it: for padding. */
uint16_t mapix_half(float x);

#endif
