/* guard.c - the SIGBUS guard.
 *
 * Reading a mapped page that the file no longer has raises SIGBUS in the reading thread.  The
 * guard keeps, per thread, a stack of frames (jump buffer and address range); the handler jumps
 * only for a fault of this thread inside its own frame's range, and hands everything else on.
 *
 * Lessons built in, each from a test that failed without it:
 * - sigsetjmp without the signal mask, SA_NODEFER, and an explicit unblock on recovery: no system
 *   call on the fast path, and correct also if other code changed the mask.
 * - The handler is checked at every guarded call: libraries (PyTorch's loader workers
 *   among them) install their own SIGBUS handler and do not chain.
 * - initial-exec TLS: the first touch of lazy TLS would allocate, in a signal handler.
 * - A thread that blocks SIGBUS is killed by the kernel when it faults, handler or not: so each
 *   thread unblocks it once.
 * - The handler that a foreign fault is handed to may leave by siglongjmp, as ours does: nothing
 *   may rely on its coming back.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#ifdef __APPLE__
#define st_mtim st_mtimespec
#define st_ctim st_ctimespec
#endif

typedef struct frame {
    sigjmp_buf env;
    const mapix_map *map; /* or null */
    uintptr_t table_at;
    uint64_t table_nbytes;
    const mapix_part *parts; /* whose maps count as well */
    uint64_t nparts;
    struct frame *outer;
    volatile int absent; /* the fault lay in a map whose pages are brought */
} frame;

/* A handler must not allocate.  glibc's dynamic model does, when a thread first uses a variable; musl's does
 * not, and musl loads no library whose model is the static one. */
#ifdef __GLIBC__
#define GUARD_TLS static _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define GUARD_TLS static _Thread_local
#endif
GUARD_TLS frame *volatile top_frame;
GUARD_TLS volatile int unblocked;
GUARD_TLS volatile uintptr_t chain_stack; /* where on the stack the last handing on stood */
GUARD_TLS const siginfo_t *volatile chain_info;
GUARD_TLS volatile uintptr_t last_foreign_at;
GUARD_TLS volatile int last_foreign_times;

/* Handlers that we replaced.  Slots are written once, before `previous` points to them, so a handler in
 * another thread always reads a complete one. */
enum { NSLOTS = 8, FOREIGN_REPEATS = 8, PATIENCE = 1000 };
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

/* Has the handler that we handed a signal to called us back, or raised the signal anew?  It stands
 * further up the stack then.  A new fault is not taken for that: the handler may be gone by
 * siglongjmp since long, and the stack in use again. */
static int called_back(const siginfo_t *info, uintptr_t stack) {
    return stack < chain_stack && (info == chain_info || info->si_code <= 0);
}

/* Pass a SIGBUS that is not ours to the previous handler, once. */
static void chain(int sig, siginfo_t *info, void *context) {
    const struct sigaction *before = atomic_load_explicit(&previous, memory_order_acquire);
    const int sent = info->si_code <= 0;
    const uintptr_t at = (uintptr_t)info->si_addr;
    const uintptr_t stack = (uintptr_t)__builtin_frame_address(0);
    if (before && is_handler(before, SIG_IGN) && sent) {
        return;
    }
    if (!before || is_handler(before, SIG_DFL) || is_handler(before, SIG_IGN) ||
        called_back(info, stack) ||
        (!sent && at == last_foreign_at && last_foreign_times >= FOREIGN_REPEATS)) {
        die_by_default(sig, info);
        return;
    }
    const uintptr_t outer_stack = chain_stack;
    const siginfo_t *outer_info = chain_info;
    chain_info = info;
    chain_stack = stack;
    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(sig, info, context);
    } else {
        before->sa_handler(sig);
    }
    chain_stack = outer_stack;
    chain_info = outer_info;
    if (!sent) { /* a handler that returns without repairing the page would loop for ever */
        last_foreign_times = at == last_foreign_at ? last_foreign_times + 1 : 1;
        last_foreign_at = at;
    }
}

/* Whether the byte lies in the map, which then gets the address of the fault. */
static int lies_in(frame *f, const mapix_map *map, uintptr_t at) {
    if (at - (uintptr_t)map->base >= map->nbytes) {
        return 0;
    }
    if (map->fault) {
        __atomic_store_n(map->fault, (uint64_t)at, __ATOMIC_RELAXED);
        f->absent = 1;
    }
    return 1;
}

static int covers(frame *f, uintptr_t at) {
    if ((f->map && lies_in(f, f->map, at)) || at - f->table_at < f->table_nbytes) {
        return 1;
    }
    for (uint64_t k = 0; k < f->nparts; k++) {
        if (lies_in(f, f->parts[k].map, at)) {
            return 1;
        }
    }
    return 0;
}

static void on_sigbus(int sig, siginfo_t *info, void *context) {
    frame *f = top_frame;
    if (info->si_code > 0 && f && covers(f, (uintptr_t)info->si_addr)) {
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

/* The slot that holds `action`, or null; *settled is 0 while another thread is filling one. */
static struct sigaction *slot_of(const struct sigaction *action, int nused, int *settled) {
    *settled = 1;
    for (int i = 0; i < nused; i++) {
        if (!atomic_load_explicit(&slot_written[i], memory_order_acquire)) {
            *settled = 0;
        } else if (same_handler(&slots[i], action)) {
            return &slots[i];
        }
    }
    return NULL;
}

/* Make `action` the handler that foreign faults are handed to.  When many threads come here at
 * once, one claims a slot and the others wait for it to be filled; not for ever: in a child of
 * fork the thread that was filling it might not exist. */
static int remember(const struct sigaction *action) {
    for (int patience = PATIENCE;;) {
        int settled, nused = atomic_load(&nslots_claimed);
        struct sigaction *slot = slot_of(action, nused, &settled);
        if (!slot && !settled && patience-- > 0) {
            sched_yield();
            continue;
        }
        if (!slot && nused == NSLOTS) {
            errno = EBUSY; /* eight owners of SIGBUS: libraries replace one another's handlers */
            return MAPIX_E_SYSTEM;
        }
        if (!slot) {
            if (!atomic_compare_exchange_strong(&nslots_claimed, &nused, nused + 1)) {
                continue;
            }
            slot = &slots[nused];
            *slot = *action;
            atomic_store_explicit(&slot_written[nused], 1, memory_order_release);
        }
        atomic_store_explicit(&previous, slot, memory_order_release);
        return MAPIX_OK;
    }
}

/* Make sure that our handler is the one in force.  Lock-free, so a fork at any moment is harmless:
 * what is displaced is published before our handler goes in. */
static int arm(void) {
    struct sigaction now, ours, displaced;
    (void)sigaction(SIGBUS, NULL, &now); /* fails for unknown signals only */
    if (is_ours(&now)) {
        return MAPIX_OK;
    }
    if (remember(&now)) {
        return MAPIX_E_SYSTEM;
    }
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_sigbus;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    (void)sigaction(SIGBUS, &ours, &displaced);
    /* Another thread might have set a handler between our two calls. */
    return is_ours(&displaced) || same_handler(&displaced, &now) ? MAPIX_OK : remember(&displaced);
}

static void unblock(void) {
    sigset_t bus;
    sigemptyset(&bus);
    sigaddset(&bus, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &bus, NULL);
}

/* Run fn with a frame whose ranges are set. */
static int run_framed(frame *f, mapix_guarded_fn fn, void *arg) {
    const int armed = arm();
    if (armed) {
        return armed;
    }
    if (!unblocked) {
        unblock();
        unblocked = 1;
    }
    f->outer = top_frame;
    f->absent = 0;
    if (sigsetjmp(f->env, 0)) { /* the handler has popped the frame */
        unblock();
        /* not by the map's `fault`, which another thread may have settled */
        return f->absent ? MAPIX_E_CHANGED : MAPIX_E_FAULT;
    }
    top_frame = f;
    atomic_signal_fence(memory_order_seq_cst);
    const int status = fn(arg);
    atomic_signal_fence(memory_order_seq_cst);
    top_frame = f->outer;
    return status;
}

int mapix_guarded(const mapix_map *map, const mapix_span *table, mapix_guarded_fn fn, void *arg) {
    frame f;
    f.map = map;
    f.table_at = table ? (uintptr_t)table->base : 0;
    f.table_nbytes = table ? table->nbytes : 0;
    f.parts = NULL;
    f.nparts = 0;
    return run_framed(&f, fn, arg);
}

int mapix_guarded_parts(const mapix_part *parts, uint64_t nparts, mapix_guarded_fn fn, void *arg) {
    frame f;
    f.map = NULL;
    f.table_at = 0;
    f.table_nbytes = 0;
    f.parts = parts;
    f.nparts = nparts;
    return run_framed(&f, fn, arg);
}

/* fstat, by the system call of that name: it is made in each call of a user.  glibc asks for the file of an empty path
 * below the descriptor, which takes 390 in place of 330 ns. */
static int describe(int fd, struct stat *found) {
#if defined(__linux__) && defined(__x86_64__) && defined(__LP64__)
    _Static_assert(sizeof *found == 144, "the kernel's struct stat");
    return (int)syscall(SYS_fstat, fd, found);
#else
    return fstat(fd, found);
#endif
}

int mapix_map_check(const mapix_map *map) {
    if (map->fault) {
        return __atomic_load_n(map->fault, __ATOMIC_RELAXED) ? MAPIX_E_CHANGED : MAPIX_OK;
    }
    if (map->fd == MAPIX_UNCHECKED) {
        return MAPIX_OK;
    }
    struct stat now;
    if (map->fd == MAPIX_BY_PATH) {
        if (stat(map->path, &now)) {
            return MAPIX_E_CHANGED;
        }
    } else if (describe((int)map->fd, &now)) {
        return errno == EBADF ? MAPIX_E_CHANGED : MAPIX_E_SYSTEM; /* closed meanwhile */
    }
    const int64_t second = 1000000000;
    const int same = (uint64_t)now.st_dev == map->dev && (uint64_t)now.st_ino == map->ino &&
                     (uint64_t)now.st_size == map->size &&
                     now.st_mtim.tv_sec * second + now.st_mtim.tv_nsec == map->mtime_ns &&
                     now.st_ctim.tv_sec * second + now.st_ctim.tv_nsec == map->ctime_ns;
    return same ? MAPIX_OK : MAPIX_E_CHANGED;
}

int mapix_guarded_checked(const mapix_map *map, mapix_guarded_fn fn, void *arg) {
    const int status = mapix_guarded(map, NULL, fn, arg);
    if (status == MAPIX_E_SYSTEM) {
        return status;
    }
    /* Whatever fn found, a file that changed is the better explanation. */
    const int moved = mapix_map_check(map);
    return moved ? moved : status;
}

uint64_t mapix_faults_caught(void) {
    return atomic_load(&nfaults);
}
