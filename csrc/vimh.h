/* vimh.h - the bytes of one VIMH record. */
#ifndef MAPIX_VIMH_H
#define MAPIX_VIMH_H

#include "mapix.h"

#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "stored indexes and spec ranges are taken as they lie in memory: little-endian machines only"
#endif

/* Prefetch the line at p + offset.  That may lie past the end, where C has no pointers: hence integers. */
#if defined(__GNUC__)
#define MAPIX_PREFETCH(p, offset) \
    __builtin_prefetch((const void *)((uintptr_t)(p) + (offset)), 0, 3)
#define MAPIX_LIKELY(x) __builtin_expect(!!(x), 1)
#define MAPIX_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define MAPIX_PREFETCH(p, offset) ((void)(p), (void)(offset))
#define MAPIX_LIKELY(x) (x)
#define MAPIX_UNLIKELY(x) (x)
#endif

/* How much is prefetched.  The first lines of a record are enough: the hardware prefetches the next ones.
 * Prefetching all 48 lines of a record of 3 KB took 7 % more time on an Intel server, and 13 % more on an
 * AMD server. */
enum {
    LINE_NBYTES = 64,
    BURST_NBYTES = 512,
    RECORDS_AHEAD = 3,
};

/* Prefetch the beginning of nbytes at p.  Always inline, as the functions that call it: gcc removes calls of
 * functions without an effect that it can see. */
__attribute__((always_inline)) static inline void prefetch_beginning(const uint8_t *p,
                                                                     uint64_t nbytes) {
    const uint64_t burst = nbytes < BURST_NBYTES ? nbytes : BURST_NBYTES;
    for (uint64_t k = 0; k < burst; k += LINE_NBYTES) {
        MAPIX_PREFETCH(p, k);
    }
}

/* Records this large are not read to find them: a cold file of them is asked for header by header,
 * and a table of them is hopped. */
#define SPARSE_NBYTES 65536

#define MAPIX_AT_BITS 56
#define MAPIX_AT_MASK ((UINT64_C(1) << MAPIX_AT_BITS) - 1)

typedef struct {
    uint64_t size; /* of the complete record; at most 15 + 510 + 65535^3, so it cannot wrap */
    uint16_t h, w, c;
    uint8_t n; /* label pairs */
} vimh_header;

/* The file's integers are little-endian; these compile to plain loads where the machine's are. */
static inline uint16_t load_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | (uint16_t)(p[1] << 8));
}

static inline uint64_t pixels(uint16_t h, uint16_t w, uint16_t c) {
    return (uint64_t)h * w * c;
}

/* A shape as mapix_where has it: h<<32 | w<<16 | c. */
static inline uint64_t packed_shape(uint16_t h, uint16_t w, uint16_t c) {
    return (uint64_t)h << 32 | (uint64_t)w << 16 | c;
}

/* Decode the header at `at`: MAPIX_OK if the complete record lies within nbytes, else
 * MAPIX_E_TRUNCATED or MAPIX_E_ZERO with *expected and *got for mapix_where. */
static inline int vimh_decode(const uint8_t *base, uint64_t nbytes, uint64_t at,
                              uint32_t head_nbytes, vimh_header *header, mapix_where *where) {
    const uint64_t left = nbytes - at;
    if (MAPIX_UNLIKELY(left < (uint64_t)head_nbytes + 1)) {
        where->expected = (uint64_t)head_nbytes + 1;
        where->got = left;
        return MAPIX_E_TRUNCATED;
    }
    const uint8_t *p = base + at;
    header->h = load_u16(p);
    header->w = load_u16(p + 2);
    header->c = load_u16(p + 4);
    header->n = p[head_nbytes];
    const uint64_t image = pixels(header->h, header->w, header->c);
    header->size = head_nbytes + 1 + 2 * (uint64_t)header->n + image;
    if (MAPIX_UNLIKELY(image == 0)) {
        where->expected = 1;
        where->got = packed_shape(header->h, header->w, header->c);
        return MAPIX_E_ZERO;
    }
    if (MAPIX_UNLIKELY(header->size > left)) {
        where->expected = header->size;
        where->got = left;
        return MAPIX_E_TRUNCATED;
    }
    return MAPIX_OK;
}

static inline void entry_set(mapix_entry *entry, uint64_t at, const vimh_header *header) {
    entry->at_n = at | (uint64_t)header->n << MAPIX_AT_BITS;
    entry->h = header->h;
    entry->w = header->w;
    entry->c = header->c;
    entry->reserved = 0;
}

/* Bytes of a record before its image; 0 for records without header and labels. */
static inline uint64_t before_image(uint32_t head_nbytes, uint8_t n) {
    return head_nbytes ? head_nbytes + 1 + 2 * (uint64_t)n : 0;
}

static inline uint64_t entry_at(const mapix_entry *entry) {
    return entry->at_n & MAPIX_AT_MASK;
}

static inline uint8_t entry_n(const mapix_entry *entry) {
    return (uint8_t)(entry->at_n >> MAPIX_AT_BITS);
}

static inline void ids_add(uint64_t ids[4], const uint8_t *pairs, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        const uint8_t id = pairs[2 * i];
        ids[id >> 6] |= UINT64_C(1) << (id & 63);
    }
}

#endif
