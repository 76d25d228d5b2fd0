/* pages.c - see pages.h; and copies of mapped bytes. */
#define _GNU_SOURCE
#include "pages.h"
#include "guard.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __linux__
typedef unsigned char residence;
#else
typedef char residence; /* of mincore */
#endif

static uint64_t page_nbytes(void) {
    const long n = sysconf(_SC_PAGESIZE);
    return n > 0 ? (uint64_t)n : 4096;
}

int mapix_map_file(uint8_t *at, uint64_t nbytes, int64_t fd, uint64_t from, int shared) {
    const int flags = shared ? MAP_SHARED : MAP_PRIVATE;
    /* Tried elsewhere first: a mapping over memory that fails can leave a hole; another thread may map
     * something there, which the caller then unmaps. */
    void *page = mmap(NULL, 1, PROT_READ, flags, (int)fd, (off_t)from);
    if (page == MAP_FAILED) {
        return MAPIX_E_SYSTEM;
    }
    (void)munmap(page, 1);
    const void *made = mmap(at, nbytes, PROT_READ, flags | MAP_FIXED, (int)fd, (off_t)from);
    return made == MAP_FAILED ? MAPIX_E_SYSTEM : MAPIX_OK;
}

int mapix_protect(uint8_t *at, uint64_t nbytes, int writable) {
    return mprotect(at, nbytes, writable ? PROT_READ | PROT_WRITE : PROT_READ) ? MAPIX_E_SYSTEM : MAPIX_OK;
}

int mapix_resident(const mapix_map *map, uint64_t at) {
    residence flag = 0;
    const uintptr_t p = (uintptr_t)(map->base + at) & ~(uintptr_t)(page_nbytes() - 1);
    return mincore((void *)p, 1, &flag) != 0 || (flag & 1);
}

void mapix_advise(const mapix_map *map, int advice) {
    const int known = advice == MAPIX_RANDOM       ? MADV_RANDOM
                      : advice == MAPIX_SEQUENTIAL ? MADV_SEQUENTIAL
                                                   : MADV_NORMAL;
    (void)madvise((void *)(uintptr_t)map->base, map->nbytes, known);
}

/* Linux cuts a request to the readahead of the device, which is 128 KiB unless it was changed. */
enum { REQUEST_NBYTES = 128 << 10 };

void mapix_willneed(const mapix_map *map, uint64_t at, uint64_t nbytes) {
    const uintptr_t end = (uintptr_t)(map->base + at) + nbytes;
    uintptr_t p = (uintptr_t)(map->base + at) & ~(uintptr_t)(page_nbytes() - 1);
    while (p < end) {
        const uintptr_t n = end - p < REQUEST_NBYTES ? end - p : REQUEST_NBYTES;
        (void)madvise((void *)p, n, MADV_WILLNEED);
        p += n;
    }
}

void mapix_expect(const mapix_map *map, uint64_t at, uint64_t nbytes) {
#ifdef POSIX_FADV_WILLNEED
    (void)posix_fadvise((int)map->fd, (off_t)at, (off_t)nbytes, POSIX_FADV_WILLNEED);
#else
    (void)map, (void)at, (void)nbytes;
#endif
}

typedef struct {
    const uint8_t *from;
    void *to;
    uint64_t nbytes;
} copy_job;

static int copy(void *arg) {
    const copy_job *job = arg;
    memcpy(job->to, job->from, job->nbytes);
    return MAPIX_OK;
}

int mapix_copy(const mapix_map *map, uint64_t at, uint64_t nbytes, void *to, mapix_where *where) {
    const uint64_t left = at > map->nbytes ? 0 : map->nbytes - at;
    copy_job job = {.to = to, .nbytes = nbytes};
    int status = at > map->nbytes || nbytes > left ? MAPIX_E_SPAN : MAPIX_OK;
    if (!status && nbytes) {
        job.from = map->base + at;
        __builtin_prefetch(job.from, 0, 3); /* under way while the guard is entered */
        status = mapix_guarded_checked(map, copy, &job);
    }
    if (status) {
        *where = (mapix_where){.record = 0, .at = at, .expected = nbytes, .got = left};
    }
    return status;
}

int mapix_read(const mapix_map *map, uint64_t at, uint64_t nbytes, void *to, mapix_where *where) {
    const int lies_in = at <= map->nbytes && nbytes <= map->nbytes - at;
    if (lies_in && map->fd >= 0 && pread((int)map->fd, to, nbytes, (off_t)at) == (ssize_t)nbytes &&
        mapix_map_check(map) == MAPIX_OK) {
        return MAPIX_OK;
    }
    return mapix_copy(map, at, nbytes, to, where); /* there is no descriptor, or another thread closed it */
}

typedef struct {
    const mapix_map *map;
    const uint64_t *places;
    uint64_t nplaces, nbytes;
    uint32_t crc;
} sum_job;

static int sum_mapped(void *arg) {
    sum_job *job = arg;
    for (uint64_t i = 0; i < job->nplaces; i++) {
        job->crc = mapix_crc32c(job->map->base + job->places[i], job->nbytes, job->crc);
    }
    return MAPIX_OK;
}

/* The same by reading the file, in a quarter of the time that a new map takes to fault its pages in. */
static int sum_read(sum_job *job) {
    uint8_t block[4096];
    for (uint64_t i = 0; job->nplaces > 1 && i < job->nplaces; i++) { /* a disk reads them side by side */
        mapix_expect(job->map, job->places[i], job->nbytes);
    }
    for (uint64_t i = 0; i < job->nplaces; i++) {
        for (uint64_t done = 0; done < job->nbytes; done += sizeof block) {
            const uint64_t left = job->nbytes - done;
            const size_t n = left < sizeof block ? (size_t)left : sizeof block;
            if (pread((int)job->map->fd, block, n, (off_t)(job->places[i] + done)) != (ssize_t)n) {
                return MAPIX_E_CHANGED;
            }
            job->crc = mapix_crc32c(block, n, job->crc);
        }
    }
    return mapix_map_check(job->map);
}

int mapix_file_crc32c(const mapix_map *map, const uint64_t *places, uint64_t nplaces, uint64_t nbytes,
                      uint32_t *crc) {
    for (uint64_t i = 0; i < nplaces; i++) {
        if (nbytes > map->nbytes || places[i] > map->nbytes - nbytes) {
            return MAPIX_E_SPAN;
        }
    }
    sum_job job = {map, places, nplaces, nbytes, *crc};
    int status = map->fd >= 0 ? sum_read(&job) : MAPIX_E_CHANGED;
    if (status) { /* there is no descriptor, or another thread closed it */
        job.crc = *crc;
        status = mapix_guarded_checked(map, sum_mapped, &job);
    }
    *crc = status ? *crc : job.crc;
    return status;
}
