/* failing_calls.c - preloaded: counts calls of the C library, lets one of them fail, or kills the process.
 *
 * fault_matrix.py arms it.  Only the calls that mapix and what it uses make for files and memory are counted,
 * of all threads.  Nothing is counted before it is armed.
 *
 * A place is what calls a function: the C functions up to the Python interpreter, and the instruction in each
 * function of Python above them.  Recording finds the places of a run, so that a call can fail at each of them
 * once, however often it is made.  Allocations are recorded alone, and all other calls together. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <unwind.h>

/* After all others, because it would give them the names of calls that are replaced here. */
#define Py_BUILD_CORE 1 /* for frames: to ask for them by the public way would allocate memory */
#include <Python.h>
#include <internal/pycore_frame.h>
#include <internal/pycore_traceback.h>
#define PREVIOUS_OF(f) ((f)->previous)
#if PY_VERSION_HEX < 0x030d0000
#define FRAME_OF(thread) ((thread)->cframe->current_frame)
#define CODE_OF(f) ((f)->f_code)
#define NEXT_OF(f) ((f)->prev_instr)
#elif PY_VERSION_HEX < 0x030e0000
#define FRAME_OF(thread) ((thread)->current_frame)
#define CODE_OF(f) ((PyCodeObject *)(f)->f_executable)
#define NEXT_OF(f) ((f)->instr_ptr)
#else /* places are those of C alone */
#define FRAME_OF(thread) ((_PyInterpreterFrame *)NULL)
#define CODE_OF(f) ((PyCodeObject *)NULL)
#define NEXT_OF(f) NULL
#undef PREVIOUS_OF
#define PREVIOUS_OF(f) NULL
#endif

#define NAMES(X) \
    X(read) X(pread64) X(preadv64v2) X(write) X(pwrite64) X(fsync) X(ftruncate64) X(rename) X(renameat2) \
    X(unlink) X(unlinkat) X(rmdir) X(mkdir) X(flock) X(fstat64) X(stat64) X(lstat64) X(mmap64) X(mmap) \
    X(mprotect) X(close) X(pthread_create) X(open64) X(openat64) X(malloc)
#define NUMBER(name) OF_##name,
#define TEXT(name) #name,
enum { NAMES(NUMBER) NNAMES };
static const char *const names[] = {NAMES(TEXT)};

static atomic_long counts[NNAMES + 1]; /* of each name, and of all but malloc */
static long at; /* the number of the call that fails, of those made at the place; -1: none */
static atomic_long nhere, nalike; /* calls made at the place, and calls with its key */
static long least_alike; /* of these so many come before the first call of the place */
static uint64_t place, key; /* where the call that fails has to be made; 0: anywhere */
static int code; /* of the error; -1 kills */
static int for_good;
static int only = NNAMES; /* the calls that count for `at` */
static int report = -1; /* a file that gets the stack of the first call that fails */
static atomic_int armed, nfailed;

static int number_of(const char *name) {
    int k = 0;
    while (k < NNAMES && strcmp(names[k], name) != 0) {
        k++;
    }
    return k;
}

/* --- places --- */

#pragma weak PyGILState_GetThisThreadState
#pragma weak _PyEval_EvalFrameDefault
#pragma weak _Py_DumpTraceback

typedef struct {
    uint64_t place;
    uint64_t key; /* of the innermost functions alone: what is compared first, because it is quickly found */
    int32_t name;
    int32_t ncalls;
    int64_t nbefore; /* calls with the same key before the first one: their stacks need not be compared */
} Place;

enum { NPLACES = 1 << 17, MOST_C_FRAMES = 64 };
static Place places[NPLACES]; /* a hash table */
static struct {
    uint64_t key;
    int64_t ncalls;
} alike[NPLACES]; /* another one */
static atomic_int recording;  /* 1: all but malloc, 2: malloc */
static atomic_flag table_is_used = ATOMIC_FLAG_INIT;
static PyObject *outside[2]; /* the names of the files whose functions do not count, nor what calls them */
static uintptr_t interpreter, interpreter_end;
static _Thread_local __attribute__((tls_model("initial-exec"))) int asks; /* the unwinder allocates memory, too */

typedef struct {
    uint64_t hash;
    uintptr_t caller; /* of the function of the C library; 0 when it was reached */
    int n;
} Walk;

static uint64_t mixed(uint64_t hash, uint64_t more) {
    hash = (hash ^ more) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *arg) {
    Walk *walk = arg;
    const uintptr_t ip = _Unwind_GetIP(context);
    if (walk->n++ == MOST_C_FRAMES || (ip >= interpreter && ip < interpreter_end)) {
        return _URC_END_OF_STACK;
    }
    if (walk->caller && ip != walk->caller) {
        return _URC_NO_REASON;
    }
    walk->caller = 0;
    walk->hash = mixed(walk->hash, ip);
    return _URC_NO_REASON;
}

static const _PyInterpreterFrame *frame_now(void) {
    PyThreadState *thread = PyGILState_GetThisThreadState ? PyGILState_GetThisThreadState() : NULL;
    return thread ? FRAME_OF(thread) : NULL;
}

static uint64_t key_now(int name, uintptr_t caller) {
    const _PyInterpreterFrame *f = frame_now();
    return mixed(mixed((uint64_t)name, caller), f ? (uintptr_t)NEXT_OF(f) : 0) | 1;
}

/* A number that is not 0. */
static uint64_t place_now(int name, uintptr_t caller) {
    Walk walk = {mixed(1, (uint64_t)name), caller, 0};
    (void)_Unwind_Backtrace(step, &walk);
    const void *code_before = NULL, *next_before = NULL;
    for (const _PyInterpreterFrame *f = frame_now(); f; f = PREVIOUS_OF(f)) {
        const PyCodeObject *code_now = CODE_OF(f);
        if (code_now->co_filename == outside[0] || code_now->co_filename == outside[1]) {
            break;
        }
        if (code_now != code_before || NEXT_OF(f) != next_before) { /* recursion counts once */
            walk.hash = mixed(mixed(walk.hash, (uintptr_t)code_now), (uintptr_t)NEXT_OF(f));
        }
        code_before = code_now;
        next_before = NEXT_OF(f);
    }
    return walk.hash | 1;
}

static void record(int name, uintptr_t caller) {
    const _PyInterpreterFrame *f = frame_now();
    if (f && CODE_OF(f)->co_filename == outside[1]) {
        return; /* it is the driver itself that calls */
    }
    const uint64_t now = place_now(name, caller), key_here = key_now(name, caller);
    while (atomic_flag_test_and_set(&table_is_used)) {
    }
    uint64_t a = key_here % NPLACES;
    for (int tries = 0; tries < NPLACES && alike[a].key && alike[a].key != key_here; tries++) {
        a = (a + 1) % NPLACES;
    }
    alike[a].key = key_here;
    const int64_t before = alike[a].ncalls++;
    uint64_t k = now % NPLACES;
    for (int tries = 0; tries < NPLACES; tries++, k = (k + 1) % NPLACES) {
        if (!places[k].place || places[k].place == now) {
            Place *p = &places[k];
            p->nbefore = p->place ? p->nbefore : before;
            p->place = now;
            p->key = key_here;
            p->name = name;
            p->ncalls++;
            break;
        }
    }
    atomic_flag_clear(&table_is_used);
}

/* Tell where stacks end: at functions of these files, of which the second is the driver. */
void failing_calls_outside(PyObject *file, PyObject *driver) {
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    const void *found = (const void *)(uintptr_t)&_PyEval_EvalFrameDefault;
    if (found && dladdr1(found, &info, (void **)&symbol, RTLD_DL_SYMENT) && symbol) {
        interpreter = (uintptr_t)info.dli_saddr;
        interpreter_end = interpreter + symbol->st_size;
    }
    outside[0] = file;
    outside[1] = driver;
}

/* Begin to record the calls that are made: of malloc, or of all others. */
void failing_calls_record(int memory) {
    memset(places, 0, sizeof places);
    memset(alike, 0, sizeof alike);
    atomic_store(&recording, 1 + !!memory);
}

/* Copy the places that were recorded; return how many there are. */
long failing_calls_places(Place *out, long n) {
    long found = 0;
    atomic_store(&recording, 0);
    for (long k = 0; k < NPLACES; k++) {
        if (places[k].place) {
            if (found < n) {
                out[found] = places[k];
            }
            found++;
        }
    }
    return found;
}

const char *failing_calls_name(int name) {
    return name >= 0 && name < NNAMES ? names[name] : "";
}

static void write_stack(int to) {
    void *stack[200];
    PyThreadState *thread = PyGILState_GetThisThreadState ? PyGILState_GetThisThreadState() : NULL;
    if (thread && _Py_DumpTraceback) {
        _Py_DumpTraceback(to, thread);
    }
    backtrace_symbols_fd(stack, backtrace(stack, 200), to);
}

static void dying(int signal) {
    asks = 1;
    write_stack(report);
    (void)raise(signal);
}

/* --- calls --- */

/* Let call number `nth` of a name, or of all, fail, of those made at a place; NULL: anywhere. */
void failing_calls_arm(long nth, int error, int stays, const char *name, const Place *where, int stack_to) {
    only = where ? where->name : number_of(name);
    at = nth;
    code = error;
    for_good = stays;
    place = where ? where->place : 0;
    key = where ? where->key : 0;
    least_alike = where ? where->nbefore : 0;
    report = stack_to;
    if (report >= 0) {
        const struct sigaction once = {.sa_handler = dying, .sa_flags = (int)SA_RESETHAND};
        (void)sigaction(SIGSEGV, &once, NULL);
        (void)sigaction(SIGABRT, &once, NULL);
    }
    for (int k = 0; k <= NNAMES; k++) {
        atomic_store(&counts[k], 0);
    }
    atomic_store(&nfailed, 0);
    atomic_store(&nhere, 0);
    atomic_store(&nalike, 0);
    atomic_store(&armed, 1);
}

/* How often a name was called; of another text: all of them.  Nothing is counted any more. */
long failing_calls_count(const char *name) {
    atomic_store(&armed, 0);
    return atomic_load(&counts[number_of(name)]);
}

/* How many calls have failed. */
int failing_calls_failed(void) {
    return atomic_load(&nfailed);
}

static int fails_now(int name, uintptr_t caller) {
    const long n = atomic_fetch_add(&counts[name], 1);
    const long all = name == OF_malloc ? 0 : atomic_fetch_add(&counts[NNAMES], 1);
    const int kind = atomic_load(&recording);
    if (kind && (name == OF_malloc) == (kind == 2)) {
        record(name, caller);
    }
    if (only != name && (only != NNAMES || name == OF_malloc)) {
        return 0;
    }
    if (atomic_load(&nfailed)) {
        return for_good;
    }
    if (!place) {
        return at == (only == NNAMES ? all : n);
    }
    if (key_now(name, caller) != key || atomic_fetch_add(&nalike, 1) < least_alike) {
        return 0;
    }
    return place_now(name, caller) == place && atomic_fetch_add(&nhere, 1) == at;
}

/* Whether this call has to fail; errno is set then. */
static int fails(int name, const void *caller) {
    if (!atomic_load(&armed) || asks) {
        return 0;
    }
    asks = 1;
    const int now = fails_now(name, (uintptr_t)caller);
    if (now && report >= 0 && !atomic_load(&nfailed)) {
        write_stack(report);
    }
    asks = 0;
    if (now) {
        atomic_fetch_add(&nfailed, 1);
        if (code < 0) {
            (void)kill(getpid(), SIGKILL);
        }
        errno = code;
    }
    return now;
}

#define FAILS(number) fails(number, __builtin_return_address(0))

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

#define CALL(type, name, failed, parameters, arguments) \
    type name parameters { \
        static type(*usual) parameters; \
        if (!usual) { \
            *(void **)&usual = real(#name); \
        } \
        return FAILS(OF_##name) ? failed : usual arguments; \
    }

CALL(ssize_t, read, -1, (int fd, void *to, size_t n), (fd, to, n))
CALL(ssize_t, pread64, -1, (int fd, void *to, size_t n, off64_t from), (fd, to, n, from))
CALL(ssize_t, preadv64v2, -1, (int fd, const struct iovec *to, int n, off64_t from, int flags),
     (fd, to, n, from, flags))
CALL(ssize_t, write, -1, (int fd, const void *from, size_t n), (fd, from, n))
CALL(ssize_t, pwrite64, -1, (int fd, const void *from, size_t n, off64_t to), (fd, from, n, to))
CALL(int, fsync, -1, (int fd), (fd))
CALL(int, ftruncate64, -1, (int fd, off64_t n), (fd, n))
CALL(int, rename, -1, (const char *from, const char *to), (from, to))
CALL(int, renameat2, -1, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))
CALL(int, unlink, -1, (const char *path), (path))
CALL(int, unlinkat, -1, (int folder, const char *path, int flags), (folder, path, flags))
CALL(int, rmdir, -1, (const char *path), (path))
CALL(int, mkdir, -1, (const char *path, mode_t mode), (path, mode))
CALL(int, flock, -1, (int fd, int how), (fd, how))
CALL(int, fstat64, -1, (int fd, struct stat64 *found), (fd, found))
CALL(int, stat64, -1, (const char *path, struct stat64 *found), (path, found))
CALL(int, lstat64, -1, (const char *path, struct stat64 *found), (path, found))
CALL(void *, mmap64, MAP_FAILED, (void *to, size_t n, int prot, int flags, int fd, off64_t from),
     (to, n, prot, flags, fd, from))
CALL(void *, mmap, MAP_FAILED, (void *to, size_t n, int prot, int flags, int fd, off_t from),
     (to, n, prot, flags, fd, from))
CALL(int, mprotect, -1, (void *from, size_t n, int prot), (from, n, prot))

/* The descriptor is closed whatever is returned, as Linux does. */
int close(int fd) {
    static int (*usual)(int);
    if (!usual) {
        *(void **)&usual = real("close");
    }
    const int failed = FAILS(OF_close);
    const int error = errno, found = usual(fd);
    if (failed) {
        errno = error;
        return -1;
    }
    return found;
}

int pthread_create(pthread_t *made, const pthread_attr_t *how, void *(*run)(void *), void *arg) {
    static int (*usual)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!usual) {
        *(void **)&usual = real("pthread_create");
    }
    return FAILS(OF_pthread_create) ? errno : usual(made, how, run, arg);
}

int open64(const char *path, int flags, ...) {
    static int (*usual)(const char *, int, ...);
    va_list more;
    va_start(more, flags);
    const mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (!usual) {
        *(void **)&usual = real("open64");
    }
    return FAILS(OF_open64) ? -1 : usual(path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    static int (*usual)(int, const char *, int, ...);
    va_list more;
    va_start(more, flags);
    const mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (!usual) {
        *(void **)&usual = real("openat64");
    }
    return FAILS(OF_openat64) ? -1 : usual(folder, path, flags, mode);
}

/* Memory, by the names that the C library has for its own. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t nbytes);
extern void *__libc_realloc(void *old, size_t n);

void *malloc(size_t n) {
    return FAILS(OF_malloc) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t nbytes) {
    return FAILS(OF_malloc) ? NULL : __libc_calloc(n, nbytes);
}

void *realloc(void *old, size_t n) {
    return FAILS(OF_malloc) ? NULL : __libc_realloc(old, n);
}
