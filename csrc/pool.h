/* pool.h - a few threads that wait for work, so that a batch can be gathered by more than one. */
#ifndef MAPIX_POOL_H
#define MAPIX_POOL_H

#include <stdint.h>

enum {
    MAPIX_POOL_MAX = 16,
    MAPIX_PARTS_A_THREAD = 4, /* so that a thread that comes late finds something left to do */
    MAPIX_LEAST_ROWS = 8,     /* of a part */
    MAPIX_MAX_PARTS = MAPIX_POOL_MAX * MAPIX_PARTS_A_THREAD /* 64: a bit for each */
};

/* Run fn(arg, part) for every part in [0, nparts), at most MAPIX_MAX_PARTS, on the calling thread and
 * up to nthreads - 1 others, in no order, each part once, and return when all are done.  Give it several
 * parts a thread: whoever has done its own takes those of others.  When the pool is busy with another caller, or threads
 * cannot be made, the calling thread does all parts itself: the result is the same.
 * Safe across fork: a child starts with an empty pool. */
void mapix_pool_run(void (*fn)(void *arg, unsigned part), void *arg, unsigned nparts,
                    unsigned nthreads);

/* Into how many parts nrows rows are cut for up to MAPIX_POOL_MAX threads. */
static inline unsigned mapix_parts_of(uint64_t nrows, unsigned nthreads) {
    const unsigned nparts = nthreads > 1 ? nthreads * MAPIX_PARTS_A_THREAD : 1;
    const uint64_t most = nrows / MAPIX_LEAST_ROWS;
    return nparts <= most ? nparts : most ? (unsigned)most : 1;
}

/* Where a part begins; where it ends is where the next one begins. */
static inline uint64_t mapix_part_begin(uint64_t nrows, unsigned nparts, unsigned part) {
    const uint64_t each = nrows / nparts, more = nrows % nparts;
    return each * part + (part < more ? part : more);
}

#endif
