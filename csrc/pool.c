/* pool.c - see pool.h.  Helpers are made when first needed and live as long as the process.
 *
 * Parts are not handed to helpers, they are taken: whoever is free claims one, the caller first of
 * all.  A helper that sleeps takes a fraction of a millisecond to wake up, which is longer than most
 * batches; so a batch never waits for one to begin, only for parts that are under way.
 *
 * Each thread has a share of the parts, and takes those of others only after its own.  Batches that are
 * written into one array then find their lines in the cache of the core that wrote them last time.
 */
#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

enum {
    SPIN_NS = 150000, /* a helper waits awake this long for the next batch before it sleeps */
    SPINS_A_LOOK = 64 /* tests between two readings of the clock */
};

/* Parts of the job that no thread has claimed yet, a bit for each. */
static atomic_uint_fast64_t unclaimed;
/* What the job is.  Written before `unclaimed` is, by the holder of `turn`, and only when nothing of
 * the last one is left to do; so whoever has claimed a part may read them. */
static void (*job_fn)(void *, unsigned);
static void *job_arg;
static atomic_uint job_nparts, job_nthreads; /* these also before */
static atomic_uint parts_done;

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* one caller at a time */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of those who sleep */
static pthread_cond_t work_there = PTHREAD_COND_INITIALIZER;
static pthread_cond_t work_done = PTHREAD_COND_INITIALIZER;
static atomic_uint nsleeping;
static atomic_uint caller_sleeps;
static unsigned nhelpers;

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t lowest_bits(unsigned n) {
    return n < 64 ? (UINT64_C(1) << n) - 1 : UINT64_MAX;
}

/* The parts that are meant for thread `me`: as many for each, one after the other. */
static uint64_t share_of(unsigned me) {
    const unsigned nparts = atomic_load(&job_nparts), nthreads = atomic_load(&job_nthreads);
    const unsigned begin = me * nparts / nthreads, end = (me + 1) * nparts / nthreads;
    return lowest_bits(end) & ~lowest_bits(begin);
}

/* Claim a part: the first of its own share, or the last one of all.  Returns its bit, 0 if none is left. */
static uint64_t claim(unsigned me) {
    uint64_t left = atomic_load(&unclaimed);
    while (left) {
        const uint64_t own = left & share_of(me);
        const uint64_t bit = own ? own & ~(own - 1) : UINT64_C(1) << (63 - __builtin_clzll(left));
        left = atomic_fetch_and(&unclaimed, ~bit);
        if (left & bit) {
            return bit;
        }
    }
    return 0;
}

/* Claim parts and do them until there are none left to claim. */
static void take_parts(unsigned me) {
    uint64_t bit;
    while ((bit = claim(me))) {
        const unsigned nparts = atomic_load(&job_nparts);
        job_fn(job_arg, (unsigned)__builtin_ctzll(bit));
        if (atomic_fetch_add(&parts_done, 1) + 1 == nparts && atomic_load(&caller_sleeps)) {
            pthread_mutex_lock(&lock);
            pthread_cond_signal(&work_done);
            pthread_mutex_unlock(&lock);
        }
    }
}

static int idle(unsigned me) {
    return !atomic_load(&unclaimed) || me >= atomic_load(&job_nthreads);
}

static void *helper(void *arg) {
    const unsigned me = (unsigned)(uintptr_t)arg;
    for (;;) {
        const uint64_t until = now_ns() + SPIN_NS;
        while (idle(me) && now_ns() < until) {
            for (int i = 0; i < SPINS_A_LOOK && idle(me); i++) {
                relax();
            }
        }
        if (idle(me)) {
            pthread_mutex_lock(&lock);
            atomic_fetch_add(&nsleeping, 1); /* before the next test: a job posted now sees it */
            while (idle(me)) {
                pthread_cond_wait(&work_there, &lock);
            }
            atomic_fetch_sub(&nsleeping, 1);
            pthread_mutex_unlock(&lock);
        }
        take_parts(me);
    }
    return NULL;
}

/* In a child of fork only the forking thread exists: forget helpers and whatever they held. */
static void forget_helpers(void) {
    pthread_mutex_init(&turn, NULL);
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&work_there, NULL);
    pthread_cond_init(&work_done, NULL);
    atomic_store(&nsleeping, 0);
    atomic_store(&unclaimed, 0);
    nhelpers = 0;
}

/* Have `wanted` helpers, or as many as can be made.  Called with `turn` held. */
static void grow(unsigned wanted) {
    static atomic_int fork_known;
    if (!atomic_exchange(&fork_known, 1)) {
        pthread_atfork(NULL, NULL, forget_helpers);
    }
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* the guard's; the other fatal ones cannot be held back anyway */
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (nhelpers < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, helper, (void *)(uintptr_t)(nhelpers + 1))) {
            break;
        }
        pthread_detach(thread);
        nhelpers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Make the job known.  Called with `turn` held and nothing of the last job left to do. */
static void post(void (*fn)(void *, unsigned), void *arg, unsigned nparts, unsigned nthreads) {
    job_fn = fn;
    job_arg = arg;
    atomic_store(&parts_done, 0);
    atomic_store(&job_nparts, nparts);
    atomic_store(&job_nthreads, nthreads);
    atomic_store(&unclaimed, lowest_bits(nparts));
    if (atomic_load(&nsleeping)) {
        pthread_mutex_lock(&lock);
        pthread_cond_broadcast(&work_there);
        pthread_mutex_unlock(&lock);
    }
}

/* Wait for parts that helpers are still at. */
static void finish(unsigned nparts) {
    const uint64_t until = now_ns() + SPIN_NS;
    while (atomic_load(&parts_done) < nparts && now_ns() < until) {
        for (int i = 0; i < SPINS_A_LOOK && atomic_load(&parts_done) < nparts; i++) {
            relax();
        }
    }
    if (atomic_load(&parts_done) < nparts) {
        pthread_mutex_lock(&lock);
        atomic_store(&caller_sleeps, 1);
        while (atomic_load(&parts_done) < nparts) {
            pthread_cond_wait(&work_done, &lock);
        }
        atomic_store(&caller_sleeps, 0);
        pthread_mutex_unlock(&lock);
    }
}

void mapix_pool_run(void (*fn)(void *arg, unsigned part), void *arg, unsigned nparts,
                    unsigned nthreads) {
    nthreads = nthreads < nparts ? nthreads : nparts;
    if (nthreads < 2 || nparts > MAPIX_MAX_PARTS || pthread_mutex_trylock(&turn)) {
        for (unsigned part = 0; part < nparts; part++) {
            fn(arg, part);
        }
        return;
    }
    if (nhelpers < nthreads - 1) {
        grow(nthreads - 1);
    }
    post(fn, arg, nparts, nthreads);
    take_parts(0);
    finish(nparts);
    pthread_mutex_unlock(&turn);
}
