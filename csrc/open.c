/* open.c - open a file and find out what it is, by one call. */
#define _GNU_SOURCE
#include "mapix.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
enum { ASKED_NBYTES = 16 << 10 }; /* as much as the kernel reads ahead of a first read */

static void ask(int fd) {
#ifdef POSIX_FADV_WILLNEED
    (void)posix_fadvise(fd, 0, ASKED_NBYTES, POSIX_FADV_WILLNEED);
#else
    (void)fd;
#endif
}

/* Read bytes that are in memory; 0 where they are not, or the system cannot tell. */
static int read_quickly(int fd, void *to, size_t want) {
#ifdef RWF_NOWAIT
    const struct iovec into = {to, want};
    return preadv2(fd, &into, 1, 0, RWF_NOWAIT) == (ssize_t)want;
#else
    return (void)fd, (void)to, !want;
#endif
}

int mapix_describe(mapix_map *map, mapix_about *about, uint32_t nfront, int wait) {
    struct stat now;
    about->nfront = MAPIX_UNREAD;
    if (fstat((int)map->fd, &now)) {
        return MAPIX_E_SYSTEM;
    }
    about->dev = map->dev = (uint64_t)now.st_dev;
    about->ino = map->ino = (uint64_t)now.st_ino;
    about->size = map->size = (uint64_t)now.st_size;
    about->mtime_ns = map->mtime_ns = now.st_mtim.tv_sec * SECOND + now.st_mtim.tv_nsec;
    about->ctime_ns = map->ctime_ns = now.st_ctim.tv_sec * SECOND + now.st_ctim.tv_nsec;
    about->mode = now.st_mode;
    about->uid = now.st_uid;
    about->gid = now.st_gid;
    about->nlink = (uint64_t)now.st_nlink;
    const uint64_t most = nfront < sizeof about->front ? nfront : sizeof about->front;
    const size_t want = (size_t)(map->size < most ? map->size : most);
    if (!S_ISREG(now.st_mode)) {
        return MAPIX_OK;
    }
    if (!wait && !read_quickly((int)map->fd, about->front, want)) {
        ask((int)map->fd);
        about->nfront = MAPIX_ABSENT;
    } else if ((!wait || pread((int)map->fd, about->front, want, 0) == (ssize_t)want) &&
               mapix_map_check(map) == MAPIX_OK) {
        about->nfront = want;
    }
    return MAPIX_OK;
}

void mapix_shut(mapix_map *map) {
    if (map->fd >= 0) {
        (void)close((int)map->fd); /* it was only read */
        map->fd = MAPIX_UNCHECKED;
    }
}

int mapix_open(const char *path, mapix_map *map, mapix_about *about, uint32_t nfront, int wait) {
    /* O_NONBLOCK: opening a FIFO must not hang; for regular files it has no effect */
    map->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (map->fd < 0) {
        return MAPIX_E_SYSTEM;
    }
    if (mapix_describe(map, about, nfront, wait)) {
        const int reason = errno;
        mapix_shut(map);
        errno = reason;
        return MAPIX_E_SYSTEM;
    }
    return MAPIX_OK;
}

void mapix_ask(const char *path) {
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        ask(fd);
        (void)close(fd);
    }
}

int mapix_settled(const char *path, const char *journal, uint64_t nbytes) {
    struct stat now;
    return access(journal, F_OK) != 0 && stat(path, &now) == 0 && (uint64_t)now.st_size == nbytes;
}
