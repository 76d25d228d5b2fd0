/* pool.c - see pool.h.  Helpers are made when first needed and live as long as the process. */
#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { SPINS = 2000 }; /* looks at the counter before sleeping: some microseconds */

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* one caller at a time */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static pthread_cond_t work_there = PTHREAD_COND_INITIALIZER;
static pthread_cond_t work_done = PTHREAD_COND_INITIALIZER;
static unsigned nhelpers;
static unsigned long job_number;
static atomic_ulong job_posted; /* job_number, readable without the lock */
static unsigned job_parts;
static void (*job_fn)(void *, unsigned);
static void *job_arg;
static atomic_uint parts_left;

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void *helper(void *number) {
    const unsigned part = (unsigned)(unsigned long)number;
    unsigned long seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&job_posted) == seen; i++) {
            relax();
        }
        pthread_mutex_lock(&lock);
        while (job_number == seen) {
            pthread_cond_wait(&work_there, &lock);
        }
        seen = job_number;
        void (*fn)(void *, unsigned) = part < job_parts ? job_fn : NULL;
        void *arg = job_arg;
        pthread_mutex_unlock(&lock);
        if (!fn) {
            continue;
        }
        fn(arg, part);
        if (atomic_fetch_sub(&parts_left, 1) == 1) {
            pthread_mutex_lock(&lock);
            pthread_cond_signal(&work_done);
            pthread_mutex_unlock(&lock);
        }
    }
    return NULL;
}

/* In a child of fork only the forking thread exists: forget helpers and whatever they held. */
static void forget_helpers(void) {
    pthread_mutex_init(&turn, NULL);
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&work_there, NULL);
    pthread_cond_init(&work_done, NULL);
    nhelpers = 0;
    job_number = 0;
    atomic_store(&job_posted, 0);
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
        if (pthread_create(&thread, NULL, helper, (void *)(unsigned long)(nhelpers + 1))) {
            break;
        }
        pthread_detach(thread);
        nhelpers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void mapix_pool_run(void (*fn)(void *arg, unsigned part), void *arg, unsigned nparts) {
    unsigned shared = 0;
    const int mine = nparts > 1 && pthread_mutex_trylock(&turn) == 0;
    if (mine) {
        if (nhelpers < nparts - 1) {
            grow(nparts - 1);
        }
        shared = nhelpers < nparts - 1 ? nhelpers : nparts - 1;
        pthread_mutex_lock(&lock);
        job_fn = fn;
        job_arg = arg;
        job_parts = shared + 1;
        atomic_store(&parts_left, shared);
        atomic_store(&job_posted, ++job_number);
        pthread_cond_broadcast(&work_there);
        pthread_mutex_unlock(&lock);
    }
    fn(arg, 0);
    for (unsigned part = shared + 1; part < nparts; part++) {
        fn(arg, part); /* parts that no helper took */
    }
    if (mine) {
        for (int i = 0; i < SPINS && atomic_load(&parts_left); i++) {
            relax();
        }
        pthread_mutex_lock(&lock);
        while (atomic_load(&parts_left)) {
            pthread_cond_wait(&work_done, &lock);
        }
        pthread_mutex_unlock(&lock);
        pthread_mutex_unlock(&turn);
    }
}
