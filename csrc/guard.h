/* guard.h - run a function that reads mapped memory, which can disappear meanwhile. */
#ifndef MAPIX_GUARD_H
#define MAPIX_GUARD_H

#include "mapix.h"

typedef int (*mapix_guarded_fn)(void *arg);

/* More memory that may be a mapped file: a stored index. */
typedef struct {
    const void *base;
    uint64_t nbytes;
} mapix_span;

/* Run fn(arg); a fault inside the map, or inside `table` unless it is null, gives MAPIX_E_FAULT, or
 * MAPIX_E_CHANGED if the map has a `fault`.  fn must only read these and write plain memory: it must not
 * allocate, lock, or make system calls that acquire anything, since it might not return.  Does not check the
 * file: call mapix_map_check afterwards. */
int mapix_guarded(const mapix_map *map, const mapix_span *table, mapix_guarded_fn fn, void *arg);

/* The same for a fault inside the map of any of the parts; tables are not covered. */
int mapix_guarded_parts(const mapix_part *parts, uint64_t nparts, mapix_guarded_fn fn, void *arg);

/* mapix_guarded, then mapix_map_check. */
int mapix_guarded_checked(const mapix_map *map, mapix_guarded_fn fn, void *arg);

#endif
