/* guard.h - run a function over mapped memory that may vanish under it. */
#ifndef MAPIX_GUARD_H
#define MAPIX_GUARD_H

#include "mapix.h"

typedef int (*mapix_guarded_fn)(void *arg);

/* More memory that may be a mapped file: a stored index. */
typedef struct {
    const void *base;
    uint64_t nbytes;
} mapix_span;

/* Run fn(arg) with faults inside the map, and inside `table` unless it is null, turned into
 * MAPIX_E_FAULT.  fn may only read them and write plain memory: no allocation, locks or system
 * calls that own something, for it may never return.  Does not look at the file: call
 * mapix_map_check after. */
int mapix_guarded(const mapix_map *map, const mapix_span *table, mapix_guarded_fn fn, void *arg);

/* mapix_guarded, then mapix_map_check: what every public function uses. */
int mapix_guarded_checked(const mapix_map *map, mapix_guarded_fn fn, void *arg);

#endif
