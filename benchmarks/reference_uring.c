/* reference_uring.c - read records with io_uring, many at once: past the page cache, which is the disk's
 * limit; or into it.  The ring is set up by hand, so that no library is needed. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { HEAD = 15, BLOCK = 4096, ROOM = 256 << 10 }; /* ROOM: bytes of a buffer */

typedef struct {
    uint64_t at;
    uint16_t h, w, c, n;
} entry;

typedef struct {
    int fd;
    uint8_t *submit, *complete;
    struct io_uring_sqe *sqes;
    struct io_uring_params p;
} ring;

static int ring_open(ring *r, unsigned depth) {
    r->fd = (int)syscall(__NR_io_uring_setup, depth, &r->p);
    if (r->fd < 0) {
        return -errno;
    }
    const size_t nsubmit = r->p.sq_off.array + r->p.sq_entries * sizeof(uint32_t);
    const size_t ncomplete = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
    const int both = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
    r->submit = mmap(NULL, nsubmit, both, flags, r->fd, IORING_OFF_SQ_RING);
    r->complete = mmap(NULL, ncomplete, both, flags, r->fd, IORING_OFF_CQ_RING);
    r->sqes = mmap(NULL, r->p.sq_entries * sizeof *r->sqes, both, flags, r->fd, IORING_OFF_SQES);
    const int mapped = r->submit != MAP_FAILED && r->complete != MAP_FAILED;
    return mapped && (void *)r->sqes != MAP_FAILED ? 0 : -errno;
}

static uint32_t *word(uint8_t *base, uint32_t at) { return (uint32_t *)(void *)(base + at); }

/* One more read of the blocks that hold a record, into buffer `slot`; or with `map`, advice that they of the
 * mapped file will be needed. */
static void ring_ask(ring *r, int fd, const uint8_t *map, const entry *e, uint8_t *buffers, uint64_t slot) {
    uint32_t *tail = word(r->submit, r->p.sq_off.tail);
    const uint32_t i = *tail & (r->p.sq_entries - 1);
    const uint64_t size = HEAD + 2 * (uint64_t)e->n + (uint64_t)e->h * e->w * e->c;
    const uint64_t from = e->at / BLOCK * BLOCK, to = (e->at + size + BLOCK - 1) / BLOCK * BLOCK;
    r->sqes[i] = (struct io_uring_sqe){
        .opcode = IORING_OP_READ,
        .fd = fd,
        .off = from,
        .addr = (uint64_t)(uintptr_t)(buffers + slot * ROOM),
        .len = (uint32_t)(to - from < ROOM ? to - from : ROOM),
        .user_data = slot,
    };
    if (map) {
        r->sqes[i] = (struct io_uring_sqe){
            .opcode = IORING_OP_MADVISE,
            .addr = (uint64_t)(uintptr_t)(map + from),
            .len = (uint32_t)(to - from),
            .fadvise_advice = MADV_WILLNEED,
            .user_data = slot,
        };
    }
    word(r->submit, r->p.sq_off.array)[i] = i;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
}

/* Read the records of `rows`, `depth` (a power of two) at a time; bytes read, or -errno.  With `map`, the
 * mapped file, nothing is copied, and the result is 1. */
int64_t ref_uring(int fd, const uint8_t *map, const entry *entries, const int64_t *rows, uint64_t n,
                  unsigned depth) {
    ring r = {.fd = -1};
    int64_t got = ring_open(&r, depth);
    uint8_t *buffers = NULL;
    if (got || posix_memalign((void **)&buffers, BLOCK, (size_t)depth * ROOM)) {
        return got ? got : -ENOMEM;
    }
    uint64_t asked = 0, done = 0;
    unsigned pending = 0; /* filled in, not yet submitted */
    for (; asked < n && asked < depth; asked++, pending++) {
        ring_ask(&r, fd, map, entries + rows[asked], buffers, asked);
    }
    while (done < n) {
        const long sent = syscall(__NR_io_uring_enter, r.fd, pending, 1, IORING_ENTER_GETEVENTS,
                                  NULL, 0);
        if (sent < 0 && errno != EINTR) {
            got = -errno;
            break;
        }
        pending -= sent > 0 ? (unsigned)sent : 0;
        uint32_t *head = word(r.complete, r.p.cq_off.head);
        const uint32_t tail =
            __atomic_load_n(word(r.complete, r.p.cq_off.tail), __ATOMIC_ACQUIRE);
        struct io_uring_cqe *cqes = (void *)(r.complete + r.p.cq_off.cqes);
        for (; *head != tail; done++) {
            const struct io_uring_cqe c = cqes[*head & (r.p.cq_entries - 1)];
            __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
            got += c.res > 0 ? c.res : 0;
            if (asked < n) {
                ring_ask(&r, fd, map, entries + rows[asked++], buffers, c.user_data);
                pending++;
            }
        }
    }
    close(r.fd); /* before the buffers go */
    free(buffers);
    return map && !got ? 1 : got;
}
