/* pages.h - whether a file's pages are in memory. */
#ifndef MAPIX_PAGES_H
#define MAPIX_PAGES_H

#include "mapix.h"

uint64_t mapix_page_nbytes(void);

/* Whether the page that byte `at` of the map lies on is in memory; yes, where the kernel does not
 * tell.  One system call; reads nothing. */
int mapix_resident(const mapix_map *map, uint64_t at);

/* Ask the kernel to read [at, at + nbytes) of the map in the background. */
void mapix_willneed(const mapix_map *map, uint64_t at, uint64_t nbytes);

#endif
