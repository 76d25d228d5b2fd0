/* scene.h - what the C harnesses share: a VIMH file of known bytes, mapped and indexed. */
#ifndef MAPIX_SCENE_H
#define MAPIX_SCENE_H

#define _GNU_SOURCE
#include "mapix.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

enum { HEAD = 14, SIDE = 32, PLANES = 3, LABELS = 2, IMAGE = SIDE * SIDE * PLANES };
enum { STRIDE = HEAD + 1 + 2 * LABELS + IMAGE };

typedef struct {
    int fd;
    uint64_t nrecords;
    uint8_t *bytes; /* what the file holds while it is complete */
    mapix_map map;
    mapix_table index;
    mapix_entry *entries; /* the same as a table, for those who want one */
} scene;

static inline uint64_t page_nbytes(void) {
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Note the file's size and times as those that the map is good for. */
static inline void scene_adopt(const scene *s, mapix_map *map) {
    struct stat now;
    CHECK(fstat(s->fd, &now) == 0);
    map->dev = (uint64_t)now.st_dev;
    map->ino = (uint64_t)now.st_ino;
    map->size = (uint64_t)now.st_size;
    map->mtime_ns = (int64_t)now.st_mtim.tv_sec * 1000000000 + now.st_mtim.tv_nsec;
    map->ctime_ns = (int64_t)now.st_ctim.tv_sec * 1000000000 + now.st_ctim.tv_nsec;
}

static inline int scene_file(uint64_t nbytes, const void *bytes) {
    const char *folder = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/mapix-harness-XXXXXX", folder ? folder : "/tmp");
    const int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0);
    CHECK(pwrite(fd, bytes, nbytes, 0) == (ssize_t)nbytes);
    return fd;
}

static inline scene scene_make(uint64_t nrecords) {
    scene s = {.nrecords = nrecords};
    const uint64_t nbytes = nrecords * STRIDE;
    s.bytes = malloc(nbytes);
    s.entries = malloc(nrecords * sizeof *s.entries);
    CHECK(s.bytes && s.entries);
    for (uint64_t i = 0; i < nrecords; i++) {
        uint8_t *p = s.bytes + i * STRIDE;
        const uint8_t head[HEAD + 1] = {SIDE, 0, SIDE, 0, PLANES, 0, [HEAD] = LABELS};
        memcpy(p, head, sizeof head);
        for (unsigned k = sizeof head; k < STRIDE; k++) {
            p[k] = (uint8_t)(1 + (i * 31 + k * 7) % 255); /* never 0, as lost bytes would be */
        }
        s.entries[i] = (mapix_entry){i * STRIDE | (uint64_t)LABELS << 56, SIDE, SIDE, PLANES, 0};
    }
    s.fd = scene_file(nbytes, s.bytes);
    uint8_t *base = mmap(NULL, nbytes, PROT_READ, MAP_SHARED, s.fd, 0);
    CHECK(base != MAP_FAILED);
    s.map = (mapix_map){.base = base, .nbytes = nbytes, .fd = s.fd};
    scene_adopt(&s, &s.map);
    s.index = (mapix_table){.nrecords = nrecords, .stride = STRIDE, .head_nbytes = HEAD};
    s.index.first = s.entries[0];
    return s;
}

static inline void scene_cut(const scene *s, uint64_t nbytes) {
    CHECK(ftruncate(s->fd, (off_t)nbytes) == 0);
}

static inline void scene_restore(const scene *s) {
    CHECK(pwrite(s->fd, s->bytes, s->map.nbytes, 0) == (ssize_t)s->map.nbytes);
}

/* Rows in an order that jumps about. */
static inline void some_rows(const scene *s, int64_t *rows, uint64_t n, uint64_t seed) {
    for (uint64_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        rows[i] = (int64_t)((seed >> 33) % s->nrecords);
    }
}

/* Gather `n` rows as bytes, planar, into `to`. */
static inline int gather_u8(const mapix_map *map, const mapix_table *index,
                            const int64_t *rows, uint64_t n, void *to, uint32_t nthreads,
                            mapix_where *where) {
    const mapix_gather g = {.images = to,
                            .images_nbytes = n * IMAGE,
                            .h = SIDE,
                            .w = SIDE,
                            .c = PLANES,
                            .nthreads = nthreads};
    return mapix_table_gather(map, index, rows, n, &g, where);
}

/* Are the n images in `got` those of the complete file? */
static inline int images_right(const scene *s, const int64_t *rows, uint64_t n,
                               const uint8_t *got) {
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *want = s->bytes + (uint64_t)rows[i] * STRIDE + (STRIDE - IMAGE);
        if (memcmp(got + i * IMAGE, want, IMAGE) != 0) {
            return 0;
        }
    }
    return 1;
}

/* A case of a programme: `PROGRAMME list` prints their names, `PROGRAMME NAME` runs one. */
typedef struct {
    const char *name;
    void (*run)(void);
} named_case;

/* The exit status: 0, or 2 when there is no case of that name. */
static inline int run_case(const named_case *cases, size_t n, int argc, char **argv) {
    const int list = argc > 1 && strcmp(argv[1], "list") == 0;
    for (size_t i = 0; i < n && argc > 1; i++) {
        if (list) {
            puts(cases[i].name);
        } else if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            return 0;
        }
    }
    return list ? 0 : 2;
}

#endif
