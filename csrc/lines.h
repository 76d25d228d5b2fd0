/* lines.h - kernels that copy pixels and numbers from a file into a batch.
 *
 * A line is n pixels of one channel.  It is read with one step and written with another, so that one
 * function serves all four pairs of planar and interleaved. */
#ifndef MAPIX_LINES_H
#define MAPIX_LINES_H

#include "mapix.h"

/* Write n values from `from` (every from_step-th byte) to `to` (every to_step-th element): bytes as they
 * are; floats as fma(byte, a, b), rounded once to float32, and once more for float16. */
typedef void (*line_fn)(void *to, size_t to_step, const uint8_t *from, size_t from_step, size_t n,
                        float a, float b);

/* Write n pixels of three planes, `plane` bytes apart, as triples; affine is 3 pairs (a, b). */
typedef void (*triple_fn)(void *to, const uint8_t *from, size_t plane, size_t n,
                          const float *affine);

/* Copy nbytes, a multiple of a number's size, with the bytes of each number reversed. */
typedef void (*swap_fn)(uint8_t *to, const uint8_t *from, uint64_t nbytes);

typedef struct {
    line_fn line[3]; /* by MAPIX_U8, MAPIX_F32, MAPIX_F16 */
    triple_fn triple[3];
    swap_fn swap[9]; /* by the size of a number: 2, 4, 8 */
    line_fn stream[2]; /* line[] with both steps 1, written past the caches, in order with later stores */
} mapix_kernels;

/* The kernels for the level in force. */
const mapix_kernels *mapix_kernels_now(void);

/* x as float16, rounded to the nearest, ties to even, as the hardware does. */
uint16_t mapix_half(float x);

/* Size of a number of the output. */
static inline size_t item_nbytes(uint32_t dtype) {
    return dtype == MAPIX_U8 ? 1 : dtype == MAPIX_F32 ? 4 : 2;
}

/* Fill nbytes with a value in units of the output. */
void mapix_fill(void *canvas, uint64_t nbytes, uint32_t dtype, float value);

#endif
