/* reference.c - what plain C does with the same bytes: limits and baselines for the benchmarks.
 *
 * Nothing here is checked, guarded or general: records have 14-byte headers, the file is whole,
 * rows are in range, the machine is little-endian.  That is the point: mapix is measured against
 * code that takes no care.  Compiled at run time by reference.py, for the machine at hand.
 *
 * Prefetches stand in the loops themselves: compilers drop calls of functions that do nothing but
 * prefetch. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

enum { HEAD = 15, LINE = 64, AHEAD = 2, LINES_AHEAD = 16, CHAINS = 16, THREADS = 64 };

typedef struct {
    uint64_t at;
    uint16_t h, w, c, n;
} entry;

static inline entry header_at(const uint8_t *base, uint64_t at) {
    entry e = {.at = at, .n = base[at + 14]};
    memcpy(&e.h, base + at, 6); /* h, w, c */
    return e;
}

static inline uint64_t size_of(const entry *e) {
    return HEAD + 2 * (uint64_t)e->n + (uint64_t)e->h * e->w * e->c;
}

#define PREFETCH(from, nbytes)                                                                     \
    do {                                                                                           \
        const uint8_t *line_ = (const uint8_t *)((uintptr_t)(from) & ~(uintptr_t)(LINE - 1));      \
        const uint8_t *end_ = (const uint8_t *)(from) + (nbytes);                                  \
        for (; line_ < end_; line_ += LINE) {                                                      \
            __builtin_prefetch(line_);                                                             \
        }                                                                                          \
    } while (0)

/* --- indexes --------------------------------------------------------------------------------- */

/* One pointer, one record after the other; the number of records, 0 if they do not tile. */
uint64_t ref_hop(const uint8_t *base, uint64_t nbytes, entry *out) {
    uint64_t at = 0, n = 0;
    while (nbytes - at >= HEAD) {
        const entry e = header_at(base, at);
        if (size_of(&e) > nbytes - at) {
            break;
        }
        out[n++] = e;
        at += size_of(&e);
    }
    return at == nbytes ? n : 0;
}

/* The same, 16 pointers at once from places that only somebody who has the index knows: record
 * first[k] is at starts[k], k = 0..16. */
void ref_chains(const uint8_t *base, const uint64_t *first, const uint64_t *starts, entry *out) {
    uint64_t at[CHAINS], i[CHAINS];
    memcpy(at, starts, sizeof at);
    memcpy(i, first, sizeof i);
    for (unsigned live = CHAINS; live;) {
        live = 0;
        for (unsigned k = 0; k < CHAINS; k++) {
            if (i[k] == first[k + 1]) {
                continue;
            }
            const entry e = header_at(base, at[k]);
            out[i[k]++] = e;
            at[k] += size_of(&e);
            __builtin_prefetch(base + at[k]);
            live++;
        }
    }
}

/* Load one cache line a record from addresses that are known: no index can be built faster. */
uint64_t ref_lines(const uint8_t *base, const uint64_t *at, uint64_t stride, uint64_t n) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t j = i + LINES_AHEAD < n ? i + LINES_AHEAD : i;
        uint32_t word;
        __builtin_prefetch(base + (at ? at[j] : j * stride));
        memcpy(&word, base + (at ? at[i] : i * stride), sizeof word);
        sum += word;
    }
    return sum;
}

/* --- batches --------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *base;
    uint64_t stride;
    uint32_t nlabels, c, plane; /* plane: bytes of one channel */
} uniform_file;

static inline void take_codes(uint8_t *to, const uint8_t *pairs, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        to[k] = pairs[2 * k + 1];
    }
}

/* The simplest loop: nbytes of each record, `skip` bytes after its beginning. */
void ref_copy(const uint8_t *base, uint64_t stride, uint64_t skip, uint64_t nbytes,
              const int64_t *rows, uint64_t n, uint8_t *to) {
    for (uint64_t i = 0; i < n; i++) {
        memcpy(to + i * nbytes, base + (uint64_t)rows[i] * stride + skip, nbytes);
    }
}

/* Images of uniform records as they are, and their label codes. */
void ref_gather(const uniform_file *f, const int64_t *rows, uint64_t n, uint8_t *images,
                uint8_t *labels) {
    const uint64_t nbytes = (uint64_t)f->c * f->plane, skip = HEAD + 2 * f->nlabels;
    for (uint64_t i = 0; i < n; i++) {
        if (i + AHEAD < n) {
            PREFETCH(f->base + (uint64_t)rows[i + AHEAD] * f->stride, f->stride);
        }
        const uint8_t *p = f->base + (uint64_t)rows[i] * f->stride;
        memcpy(images + i * nbytes, p + skip, nbytes);
        take_codes(labels + i * f->nlabels, p + HEAD, f->nlabels);
    }
}

static inline void line_to_float(float *to, const uint8_t *from, uint32_t n, float a, float b) {
    uint32_t i = 0;
#ifdef __AVX2__
    const __m256 va = _mm256_set1_ps(a), vb = _mm256_set1_ps(b);
    for (; i + 16 <= n; i += 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(from + i));
        const __m256 low = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x));
        const __m256 high = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(x, 8)));
        _mm256_storeu_ps(to + i, _mm256_fmadd_ps(low, va, vb));
        _mm256_storeu_ps(to + i + 8, _mm256_fmadd_ps(high, va, vb));
    }
#endif
    for (; i < n; i++) {
        to[i] = (float)from[i] * a + b;
    }
}

/* The same as float32 (n, c, h, w), byte * affine[2k] + affine[2k + 1] in channel k. */
void ref_gather_float(const uniform_file *f, const int64_t *rows, uint64_t n, const float *affine,
                      float *images, uint8_t *labels) {
    const uint64_t skip = HEAD + 2 * f->nlabels;
    for (uint64_t i = 0; i < n; i++) {
        if (i + AHEAD < n) {
            PREFETCH(f->base + (uint64_t)rows[i + AHEAD] * f->stride, f->stride);
        }
        const uint8_t *p = f->base + (uint64_t)rows[i] * f->stride;
        for (uint32_t k = 0; k < f->c; k++) {
            line_to_float(images + (i * f->c + k) * f->plane, p + skip + (uint64_t)k * f->plane,
                          f->plane, affine[2 * k], affine[2 * k + 1]);
        }
        take_codes(labels + i * f->nlabels, p + HEAD, f->nlabels);
    }
}

/* Bytes that ref_gather_flat will write. */
uint64_t ref_flat_nbytes(const entry *entries, const int64_t *rows, uint64_t n) {
    uint64_t total = 0;
    for (uint64_t i = 0; i < n; i++) {
        const entry *e = entries + rows[i];
        total += (uint64_t)e->h * e->w * e->c;
    }
    return total;
}

/* Images of mixed records back to back, where each begins, and labels by id: (n, 8). */
void ref_gather_flat(const uint8_t *base, const entry *entries, const int64_t *rows, uint64_t n,
                     uint8_t *images, uint64_t *begins, uint8_t *labels) {
    uint64_t to = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (i + 8 < n) {
            __builtin_prefetch(entries + rows[i + 8]);
        }
        if (i + AHEAD < n) {
            const entry *next = entries + rows[i + AHEAD];
            PREFETCH(base + next->at, size_of(next));
        }
        const entry *e = entries + rows[i];
        const uint8_t *pairs = base + e->at + HEAD;
        const uint64_t nbytes = (uint64_t)e->h * e->w * e->c;
        memcpy(images + to, pairs + 2 * e->n, nbytes);
        begins[i] = to;
        to += nbytes;
        memset(labels + 8 * i, 0, 8);
        for (uint32_t k = 0; k < e->n; k++) {
            labels[8 * i + (pairs[2 * k] & 7)] = pairs[2 * k + 1];
        }
    }
    begins[n] = to;
}

/* --- a cold disk ----------------------------------------------------------------------------- */

typedef struct {
    int fd;
    const entry *entries;
    const int64_t *rows;
    uint64_t n;
    _Atomic uint64_t next, got;
} reading;

static void *read_some(void *arg) {
    reading *r = arg;
    uint8_t *into = malloc(1 << 20);
    for (uint64_t i; into && (i = atomic_fetch_add(&r->next, 1)) < r->n;) {
        const entry *e = r->entries + r->rows[i];
        const uint64_t size = size_of(e) < 1 << 20 ? size_of(e) : 1 << 20;
        const ssize_t got = pread(r->fd, into, size, (off_t)e->at);
        atomic_fetch_add(&r->got, got > 0 ? (uint64_t)got : 0);
    }
    free(into);
    return NULL;
}

/* Read records with as many threads as that; the number of bytes read. */
uint64_t ref_pread(int fd, const entry *entries, const int64_t *rows, uint64_t n,
                   unsigned nthreads) {
    reading r = {.fd = fd, .entries = entries, .rows = rows, .n = n};
    pthread_t threads[THREADS];
    unsigned started = 0;
    nthreads = nthreads < THREADS ? nthreads : THREADS;
    while (started < nthreads && !pthread_create(&threads[started], NULL, read_some, &r)) {
        started++;
    }
    for (unsigned k = 0; k < started; k++) {
        pthread_join(threads[k], NULL);
    }
    return r.got;
}
