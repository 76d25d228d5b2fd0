/* pages.h - the page cache: whether a page is in memory. */
#ifndef MAPIX_PAGES_H
#define MAPIX_PAGES_H

#include "mapix.h"

/* Whether the page of byte `at` of the map is in memory; 1 if the kernel does not report it.  One system
 * call; reads no page. */
int mapix_resident(const mapix_map *map, uint64_t at);

/* Have the kernel read bytes of the file through `fd`, in the background. */
void mapix_expect(const mapix_map *map, uint64_t at, uint64_t nbytes);

#endif
