/* failing_calls.c - preloaded: counts calls of the C library, lets one of them fail, or kills the process.
 *
 * fault_matrix.py arms it.  Only the calls that mapix and what it uses make for files and memory are counted,
 * of all threads.  Nothing is counted before it is armed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
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

#define NAMES(X) \
    X(read) X(pread64) X(preadv64v2) X(write) X(pwrite64) X(fsync) X(ftruncate64) X(rename) X(renameat2) \
    X(unlink) X(unlinkat) X(rmdir) X(mkdir) X(flock) X(fstat64) X(stat64) X(lstat64) X(mmap64) X(mmap) \
    X(mprotect) X(close) X(pthread_create) X(open64) X(openat64)
#define NUMBER(name) OF_##name,
#define TEXT(name) #name,
enum { NAMES(NUMBER) NNAMES };
static const char *const names[] = {NAMES(TEXT)};

static atomic_long counts[NNAMES + 1]; /* of each name, and of all */
static long at;
static int code; /* of the error; -1 kills */
static int for_good;
static int only = NNAMES; /* the calls that count for `at` */
static atomic_int armed;

static int number_of(const char *name) {
    int k = 0;
    while (k < NNAMES && strcmp(names[k], name) != 0) {
        k++;
    }
    return k;
}

void failing_calls_arm(long nth, int error, int stays, const char *name) {
    only = number_of(name);
    at = nth;
    code = error;
    for_good = stays;
    for (int k = 0; k <= NNAMES; k++) {
        atomic_store(&counts[k], 0);
    }
    atomic_store(&armed, 1);
}

/* How often a name was called; of another text: all of them.  Nothing is counted any more. */
long failing_calls_count(const char *name) {
    atomic_store(&armed, 0);
    return atomic_load(&counts[number_of(name)]);
}

/* Whether this call has to fail; errno is set then. */
static int fails(int name) {
    if (!atomic_load(&armed)) {
        return 0;
    }
    const long n = atomic_fetch_add(&counts[name], 1), all = atomic_fetch_add(&counts[NNAMES], 1);
    const long now = only == NNAMES ? all : n;
    if ((only != NNAMES && only != name) || at < 0 || !(now == at || (for_good && now > at))) {
        return 0;
    }
    if (code < 0) {
        (void)kill(getpid(), SIGKILL);
    }
    errno = code;
    return 1;
}

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

#define CALL(type, name, failed, parameters, arguments) \
    type name parameters { \
        static type(*usual) parameters; \
        if (!usual) { \
            *(void **)&usual = real(#name); \
        } \
        return fails(OF_##name) ? failed : usual arguments; \
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
    const int failed = fails(OF_close);
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
    return fails(OF_pthread_create) ? errno : usual(made, how, run, arg);
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
    return fails(OF_open64) ? -1 : usual(path, flags, mode);
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
    return fails(OF_openat64) ? -1 : usual(folder, path, flags, mode);
}
