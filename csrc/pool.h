/* pool.h - a few threads that wait for work, so that a batch can be gathered by more than one. */
#ifndef MAPIX_POOL_H
#define MAPIX_POOL_H

enum { MAPIX_POOL_MAX = 16 };

/* Run fn(arg, part) for every part in [0, nparts) on the calling thread and up to nthreads - 1
 * others, in no order, each part once, and return when all are done.  Give it several parts a
 * thread: whoever is free takes the next.  When the pool is busy with another caller, or threads
 * cannot be made, the calling thread does all parts itself: the result is the same.
 * Safe across fork: a child starts with an empty pool. */
void mapix_pool_run(void (*fn)(void *arg, unsigned part), void *arg, unsigned nparts,
                    unsigned nthreads);

#endif
