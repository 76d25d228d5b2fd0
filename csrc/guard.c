/* guard.c - the SIGBUS guard.
 *
 * Reading a mapped page that the file no longer has raises SIGBUS in the reading thread.  The
 * guard keeps, per thread, a stack of frames (jump buffer and address range); the handler jumps
 * only for a fault of this thread inside its own frame's range, and hands everything else on.
 *
 * Lessons built in, each from a test that failed without it:
 * - sigsetjmp without the signal mask, SA_NODEFER, and an explicit unblock on recovery: no system
 *   call on the fast path, and still right when somebody else filled the mask.
 * - The handler is looked up again at every guarded call: libraries (PyTorch's loader workers
 *   among them) install their own SIGBUS handler and do not chain.
 * - initial-exec TLS: the first touch of lazy TLS would allocate, in a signal handler.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

typedef struct frame {
    sigjmp_buf env;
    uintptr_t lo, hi;
    struct frame *outer;
} frame;

#define GUARD_TLS static _Thread_local __attribute__((tls_model("initial-exec")))
GUARD_TLS frame *volatile top_frame;
GUARD_TLS volatile int in_chain;
GUARD_TLS volatile uintptr_t last_foreign_at;
GUARD_TLS volatile int last_foreign_times;

/* Handlers that we displaced.  Slots are written once, before `previous` points to them, so a
 * handler that runs in another thread always reads a whole one. */
enum { NSLOTS = 8, FOREIGN_REPEATS = 8 };
static struct sigaction slots[NSLOTS];
static atomic_int slot_written[NSLOTS];
static atomic_int nslots_claimed;
static _Atomic(struct sigaction *) previous;
static atomic_uint_fast64_t nfaults;

static void on_sigbus(int sig, siginfo_t *info, void *context);

static void die_by_default(int sig, const siginfo_t *info) {
    struct sigaction plain;
    memset(&plain, 0, sizeof plain);
    plain.sa_handler = SIG_DFL;
    sigemptyset(&plain.sa_mask);
    sigaction(sig, &plain, NULL);
    if (info->si_code <= 0) { /* sent by kill or raise: it will not come again by itself */
        raise(sig);
    }
}

static int is_handler(const struct sigaction *action, void (*which)(int)) {
    return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == which;
}

/* A SIGBUS that is not ours: give it to whoever was there before, once. */
static void chain(int sig, siginfo_t *info, void *context) {
    const struct sigaction *before = atomic_load_explicit(&previous, memory_order_acquire);
    const int sent = info->si_code <= 0;
    if (before && is_handler(before, SIG_IGN) && sent) {
        return;
    }
    if (!before || in_chain || is_handler(before, SIG_DFL) || is_handler(before, SIG_IGN)) {
        die_by_default(sig, info);
        return;
    }
    if (!sent) { /* a handler that returns without mending the page would spin for ever */
        const uintptr_t at = (uintptr_t)info->si_addr;
        last_foreign_times = at == last_foreign_at ? last_foreign_times + 1 : 0;
        last_foreign_at = at;
        if (last_foreign_times > FOREIGN_REPEATS) {
            die_by_default(sig, info);
            return;
        }
    }
    in_chain = 1;
    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(sig, info, context);
    } else {
        before->sa_handler(sig);
    }
    in_chain = 0;
}

static void on_sigbus(int sig, siginfo_t *info, void *context) {
    frame *f = top_frame;
    const uintptr_t at = (uintptr_t)info->si_addr;
    if (info->si_code > 0 && f && at >= f->lo && at < f->hi) {
        top_frame = f->outer;
        atomic_fetch_add_explicit(&nfaults, 1, memory_order_relaxed);
        siglongjmp(f->env, 1);
    }
    const int saved_errno = errno;
    chain(sig, info, context);
    errno = saved_errno;
}

static int is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_sigbus;
}

static int same_handler(const struct sigaction *a, const struct sigaction *b) {
    const int a_info = (a->sa_flags & SA_SIGINFO) != 0, b_info = (b->sa_flags & SA_SIGINFO) != 0;
    if (a_info != b_info) {
        return 0;
    }
    return a_info ? a->sa_sigaction == b->sa_sigaction : a->sa_handler == b->sa_handler;
}

/* Make sure that our handler is the one in force.  Lock-free, so a fork at any moment is harmless:
 * what is displaced is published before our handler goes in. */
static int arm(void) {
    struct sigaction now, ours;
    if (sigaction(SIGBUS, NULL, &now)) {
        return MAPIX_E_SYSTEM;
    }
    if (is_ours(&now)) {
        return MAPIX_OK;
    }
    struct sigaction *slot = NULL;
    const int used = atomic_load(&nslots_claimed);
    for (int i = 0; i < used && i < NSLOTS && !slot; i++) {
        if (atomic_load_explicit(&slot_written[i], memory_order_acquire) &&
            same_handler(&slots[i], &now)) {
            slot = &slots[i];
        }
    }
    if (!slot) {
        const int mine = atomic_fetch_add(&nslots_claimed, 1);
        if (mine >= NSLOTS) {
            atomic_store(&nslots_claimed, NSLOTS);
            errno = EBUSY; /* eight different owners of SIGBUS: somebody is fighting */
            return MAPIX_E_SYSTEM;
        }
        slots[mine] = now;
        atomic_store_explicit(&slot_written[mine], 1, memory_order_release);
        slot = &slots[mine];
    }
    atomic_store_explicit(&previous, slot, memory_order_release);
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_sigbus;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    return sigaction(SIGBUS, &ours, NULL) ? MAPIX_E_SYSTEM : MAPIX_OK;
}

int mapix_guarded(const mapix_map *map, mapix_guarded_fn fn, void *arg) {
    const int armed = arm();
    if (armed) {
        return armed;
    }
    frame f;
    f.lo = (uintptr_t)map->base;
    f.hi = f.lo + map->nbytes;
    f.outer = top_frame;
    if (sigsetjmp(f.env, 0)) { /* the handler has popped the frame */
        sigset_t bus;
        sigemptyset(&bus);
        sigaddset(&bus, SIGBUS);
        pthread_sigmask(SIG_UNBLOCK, &bus, NULL);
        return MAPIX_E_FAULT;
    }
    top_frame = &f;
    atomic_signal_fence(memory_order_seq_cst);
    const int status = fn(arg);
    atomic_signal_fence(memory_order_seq_cst);
    top_frame = f.outer;
    return status;
}

int mapix_map_check(const mapix_map *map) {
    if (map->fd < 0) {
        return MAPIX_OK;
    }
    struct stat now;
    if (fstat((int)map->fd, &now)) {
        return MAPIX_E_SYSTEM;
    }
    const int64_t second = 1000000000;
    const int same = (uint64_t)now.st_size == map->size &&
                     now.st_mtim.tv_sec * second + now.st_mtim.tv_nsec == map->mtime_ns &&
                     now.st_ctim.tv_sec * second + now.st_ctim.tv_nsec == map->ctime_ns;
    return same ? MAPIX_OK : MAPIX_E_CHANGED;
}

int mapix_guarded_checked(const mapix_map *map, mapix_guarded_fn fn, void *arg) {
    const int status = mapix_guarded(map, fn, arg);
    if (status == MAPIX_E_SYSTEM) {
        return status;
    }
    /* Whatever fn found, a file that moved is the better explanation of it. */
    const int moved = mapix_map_check(map);
    return moved ? moved : status;
}

uint64_t mapix_faults_caught(void) {
    return atomic_load(&nfaults);
}
