/* fuzz.h - what the fuzz targets share: reading an input, making a VIMH file of it, and a slow
 * reader of that file which shares no line with the core.
 *
 * An input is a stream of bytes.  Reading past its end gives zeros, so that every input means
 * something and short ones stay short.  The file part of an input is either literal bytes or a
 * small programme ("300 records of 2x3x1 with 4 labels; flip that byte; cut the end"): the chained
 * walk begins only after dozens of records, which flipping bytes alone would not reach. */
#ifndef MAPIX_FUZZ_H
#define MAPIX_FUZZ_H

#include "mapix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

/* For checks that are the same with every input: made by the first one of a process. */
#define ONCE(checks)     \
    do {                 \
        static int done; \
        if (!done) {     \
            done = 1;    \
            checks;      \
        }                \
    } while (0)

/* --- an input ---------------------------------------------------------------------------------*/

typedef struct {
    const uint8_t *next;
    size_t left;
} input;

static inline uint8_t take(input *in) {
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->next++;
}

static inline uint64_t take_n(input *in, unsigned nbytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < nbytes; i++) {
        value |= (uint64_t)take(in) << (8 * i);
    }
    return value;
}

/* A heap block of exactly nbytes, so that AddressSanitizer sees the first byte beyond it. */
static inline void *block(size_t nbytes) {
    void *p = malloc(nbytes);
    CHECK(p || nbytes == 0);
    return p;
}

/* strchr, without the checks that AddressSanitizer adds to each call of it. */
static inline int is_one_of(uint8_t c, const char *some) {
    while (*some && (uint8_t)*some != c) {
        some++;
    }
    return *some != 0;
}

/* --- a file from an input ---------------------------------------------------------------------*/

typedef struct {
    uint8_t *bytes;
    size_t nbytes, room;
    unsigned head_nbytes;
} draft;

static inline void put(draft *d, uint64_t value) {
    if (d->nbytes < d->room) {
        d->bytes[d->nbytes++] = (uint8_t)value;
    }
}

static inline void put_16(draft *d, uint64_t value) {
    put(d, value & 255);
    put(d, value >> 8 & 255);
}

/* Pixels that look like pixels, like nothing, or like headers: decoys for a guessing walk. */
static inline uint8_t pixel(unsigned kind, uint64_t i) {
    static const uint8_t decoy[8] = {1, 0, 1, 0, 1, 0, 0, 7};
    switch (kind & 3) {
    case 0: return 0;
    case 1: return decoy[i & 7];
    case 2: return (uint8_t)(i * 2654435761u >> 13 ^ kind);
    default: return (uint8_t)(0x80 | kind);
    }
}

static inline void put_records(draft *d, input *in, unsigned op) {
    const uint64_t count = (1 + (uint64_t)take(in)) * (op & 8 ? 64 : 1);
    const unsigned nbits = op & 16 ? 2 : 1; /* of the size: one byte or two */
    const uint64_t h = take_n(in, nbits), w = take_n(in, nbits), c = take_n(in, nbits);
    const unsigned n = take(in), fill = take(in);
    const uint64_t image = h * w * c;
    for (uint64_t i = 0; i < count && d->nbytes < d->room; i++) {
        put_16(d, h);
        put_16(d, w);
        put_16(d, c);
        for (unsigned k = 6; k < d->head_nbytes; k++) {
            put(d, k * 37 + i);
        }
        put(d, n);
        for (unsigned k = 0; k < n; k++) {
            put(d, op & 32 ? k * 3 + i : k);
            put(d, i + k);
        }
        for (uint64_t k = 0; k < image && d->nbytes < d->room; k++) {
            put(d, pixel(fill, k + i));
        }
    }
}

/* The rest of the input as a file in memory of the caller, cut off at its end. */
static inline void draft_file(draft *d, input *in, int literal) {
    if (literal) {
        while (in->left) {
            put(d, take(in));
        }
    }
    while (in->left) {
        const unsigned op = take(in);
        if ((op & 7) < 5) {
            put_records(d, in, op);
        } else if ((op & 7) == 5) {
            for (unsigned k = 1 + take(in); k; k--) {
                put(d, take(in));
            }
        } else if ((op & 7) == 6) {
            const uint64_t at = take_n(in, 3);
            const uint8_t flip = take(in);
            if (d->nbytes) {
                d->bytes[at % d->nbytes] ^= flip;
            }
        } else {
            const size_t cut = take_n(in, op & 8 ? 2 : 1);
            d->nbytes -= cut < d->nbytes ? cut : d->nbytes;
        }
    }
}

/* --- the slow reader --------------------------------------------------------------------------*/

typedef struct {
    uint64_t at, end; /* bytes [at, end) */
    uint64_t pairs_at, image_at;
    unsigned h, w, c, n;
} slow_record;

typedef struct {
    slow_record *records;
    uint64_t nrecords;
    int status; /* of the first bad record, or MAPIX_OK */
    mapix_where where;
} slow_file;

/* Read a record as the format's text says it, a byte at a time; returns a status. */
static inline int slow_read(const uint8_t *file, uint64_t nbytes, uint64_t at, unsigned head,
                            slow_record *r, mapix_where *where) {
    where->at = at;
    if (nbytes - at < head + 1) {
        where->expected = head + 1;
        where->got = nbytes - at;
        return MAPIX_E_TRUNCATED;
    }
    r->at = at;
    r->h = file[at] + 256u * file[at + 1];
    r->w = file[at + 2] + 256u * file[at + 3];
    r->c = file[at + 4] + 256u * file[at + 5];
    r->n = file[at + head];
    r->pairs_at = at + head + 1;
    r->image_at = r->pairs_at + r->n + r->n;
    const unsigned __int128 end = (unsigned __int128)r->h * r->w * r->c + r->image_at;
    if (!r->h || !r->w || !r->c) {
        where->expected = 1;
        where->got = (uint64_t)r->h * 4294967296u + (uint64_t)r->w * 65536u + r->c;
        return MAPIX_E_ZERO;
    }
    if (end > nbytes) {
        where->expected = (uint64_t)(end - at);
        where->got = nbytes - at;
        return MAPIX_E_TRUNCATED;
    }
    r->end = (uint64_t)end;
    return MAPIX_OK;
}

static inline slow_file slow_walk(const uint8_t *file, uint64_t nbytes, unsigned head) {
    slow_file all = {.status = MAPIX_OK};
    uint64_t at = 0, room = 0;
    while (at < nbytes) {
        slow_record r;
        all.where.record = all.nrecords;
        all.status = slow_read(file, nbytes, at, head, &r, &all.where);
        if (all.status) {
            break;
        }
        if (all.nrecords == room) {
            room = room ? 2 * room : 64;
            all.records = realloc(all.records, room * sizeof r);
            CHECK(all.records);
        }
        all.records[all.nrecords++] = r;
        at = r.end;
    }
    return all;
}

#endif
