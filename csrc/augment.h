/* augment.h - an image with random changes: a window of it, mirrored, with a part cut out. */
#ifndef MAPIX_AUGMENT_H
#define MAPIX_AUGMENT_H

#include "lines.h"
#include "vimh.h"

/* Whether gather->augment is consistent. */
int mapix_augment_usable(const mapix_gather *gather);

/* Write the image of record r, the i-th of the batch, to `to`: MAPIX_OK; MAPIX_E_SHAPE if it does not fit,
 * with *where filled in apart from `at`. */
int mapix_augment_image(const mapix_gather *gather, const mapix_kernels *kernels, uint64_t i,
                        const vimh_header *r, int interleaved, const uint8_t *image, uint8_t *to,
                        mapix_where *where);

#endif
