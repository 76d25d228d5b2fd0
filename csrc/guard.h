/* guard.h - run a function over mapped memory that may vanish under it. */
#ifndef MAPIX_GUARD_H
#define MAPIX_GUARD_H

#include "mapix.h"

typedef int (*mapix_guarded_fn)(void *arg);

/* Run fn(arg) with faults inside [map->base, map->base + map->nbytes) turned into MAPIX_E_FAULT.
 * fn may only read the map and write plain memory: no allocation, locks or system calls that own
 * something, for it may never return.  Does not look at the file: call mapix_map_check after. */
int mapix_guarded(const mapix_map *map, mapix_guarded_fn fn, void *arg);

/* mapix_guarded, then mapix_map_check: what every public function uses. */
int mapix_guarded_checked(const mapix_map *map, mapix_guarded_fn fn, void *arg);

#endif
