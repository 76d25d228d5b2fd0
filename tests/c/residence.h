/* residence.h - pages that are in memory, or on the disk, as a test wants them.
 *
 * A program that includes this has a mincore of its own, which the core then calls.  Pages that a test has just
 * written are in memory, and those that it drops may be read again by the kernel at any time. */
#ifndef MAPIX_TESTS_RESIDENCE_H
#define MAPIX_TESTS_RESIDENCE_H

#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RESIDENCE_REAL = 0, RESIDENCE_FAILS = 256 };

/* Bit k: the page of call k, of each eight, is on the disk.  Or one of the above. */
static unsigned residence = RESIDENCE_REAL;
static unsigned residence_ncalls;

int mincore(void *at, size_t nbytes, unsigned char *flags) {
    if (residence == RESIDENCE_REAL) {
        return (int)syscall(SYS_mincore, at, nbytes, flags);
    }
    if (residence == RESIDENCE_FAILS) {
        errno = EAGAIN;
        return -1;
    }
    *flags = !(residence >> residence_ncalls++ % 8 & 1);
    return 0;
}

#endif
