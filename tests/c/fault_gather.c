/* fault_gather.c - gathering from files, tables and threads that things happen to.
 *
 * Usage: fault_gather CASE [SECONDS]; fault_gather list.  Exit 0 when the case holds. */
#include "residence.h"
#include "scene.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

enum {
    BATCH = 64,
    NWORKERS = 4,
    NRECORDS = 600,
    ENOUGH = 101,   /* faults, before a case that counts them ends */
    PATIENCE = 120, /* seconds that it goes on for them, on a machine that is busy */
};

static int seconds = 3;

static void pause_ms(long ms) {
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* --- a file that is cut and restored, over and over -------------------------------------------*/

static struct {
    scene s;
    atomic_int stop;
    atomic_uint state; /* even: the file is complete, and stays so for a while */
    atomic_ulong ngood, nrefused, nfaults;
} cut;

/* A batch that is reported good must hold the complete file's bytes, if it was begun on a map made of
 * the complete file: whatever was cut and restored since, the file's times have moved. */
static void gather_checked(mapix_map *map, const int64_t *rows, uint8_t *images, uint32_t nthreads) {
    mapix_where where;
    memset(images, 0, BATCH * IMAGE);
    const int status = gather_u8(map, &cut.s.index, rows, BATCH, images, nthreads, &where);
    if (status == MAPIX_OK) {
        CHECK(images_right(&cut.s, rows, BATCH, images));
        atomic_fetch_add(&cut.ngood, 1);
        return;
    }
    CHECK(status == MAPIX_E_CHANGED); /* the better explanation of a fault */
    atomic_fetch_add(&cut.nrefused, 1);
    const unsigned before = atomic_load(&cut.state);
    if (before % 2 == 0) { /* open the file anew, as it were */
        mapix_map fresh = cut.s.map;
        scene_adopt(&cut.s, &fresh);
        if (atomic_load(&cut.state) == before) {
            *map = fresh;
        }
    }
}

static void *gather_cut_file(void *number) {
    uint64_t turn = (uint64_t)(uintptr_t)number;
    uint8_t *images = malloc(BATCH * IMAGE);
    int64_t rows[BATCH];
    CHECK(images);
    mapix_map map = cut.s.map, unchecked = cut.s.map;
    unchecked.fd = -1;
    while (!atomic_load(&cut.stop)) {
        some_rows(&cut.s, rows, BATCH, turn++);
        gather_checked(&map, rows, images, 1 + (uint32_t)(turn % 3));
        mapix_where where;
        for (int i = 0; i < 8 && atomic_load(&cut.state) % 2; i++) { /* only to fault often */
            some_rows(&cut.s, rows, BATCH, turn++);
            const int status = gather_u8(&unchecked, &cut.s.index, rows, BATCH, images, 1, &where);
            CHECK(status == MAPIX_OK || status == MAPIX_E_STALE || status == MAPIX_E_FAULT);
            CHECK(status != MAPIX_E_FAULT || where.at == where.record * STRIDE);
            atomic_fetch_add(&cut.nfaults, status == MAPIX_E_FAULT);
        }
    }
    free(images);
    return NULL;
}

static int cut_enough(void) {
    return atomic_load(&cut.ngood) && atomic_load(&cut.nrefused) &&
           atomic_load(&cut.nfaults) >= ENOUGH;
}

/* Goes on for `seconds`, and until enough was done: on a busy machine seconds say nothing. */
static void case_cut(void) {
    cut.s = scene_make(NRECORDS);
    pthread_t threads[NWORKERS];
    for (int i = 0; i < NWORKERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, gather_cut_file, (void *)(uintptr_t)(i * 9999)) == 0);
    }
    const time_t end = time(NULL) + seconds;
    unsigned long ncuts = 0;
    for (; time(NULL) < end || (!cut_enough() && time(NULL) < end + PATIENCE); ncuts++) {
        pause_ms(20); /* coarse clocks tick every 4 to 10 ms: states must differ in time */
        atomic_fetch_add(&cut.state, 1);
        /* also inside a page, where no signal reports that bytes are gone */
        scene_cut(&cut.s, cut.s.map.nbytes - 1 - ncuts * 7919 % (cut.s.map.nbytes - 1));
        pause_ms(15);
        scene_restore(&cut.s);
        atomic_fetch_add(&cut.state, 1);
    }
    atomic_store(&cut.stop, 1);
    for (int i = 0; i < NWORKERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    printf("cuts=%lu good=%lu refused=%lu faults=%lu caught=%lu\n", ncuts, atomic_load(&cut.ngood),
           atomic_load(&cut.nrefused), atomic_load(&cut.nfaults),
           (unsigned long)mapix_faults_caught());
    CHECK(cut_enough());
}

/* --- a table that is lost, or changes, under the gather's hands -------------------------------*/

/* The index table is a mapped file too when it comes from the cache: cut it. */
static void case_lost_table(void) {
    static uint8_t images[BATCH * IMAGE];
    const scene s = scene_make(NRECORDS);
    const uint64_t nbytes = NRECORDS * sizeof(mapix_entry);
    const int fd = scene_file(nbytes, s.entries);
    mapix_table index = s.index;
    index.stride = 0;
    index.entries = mmap(NULL, nbytes, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(index.entries != MAP_FAILED);
    int64_t rows[BATCH];
    some_rows(&s, rows, BATCH, 1);
    mapix_where where;
    CHECK(gather_u8(&s.map, &index, rows, BATCH, images, 3, &where) == MAPIX_OK);
    uint64_t extent[7], nasked, flat_at[BATCH + 1];
    CHECK(mapix_table_extent(s.map.nbytes, &index, rows, BATCH, extent, flat_at, &where) == MAPIX_OK);
    CHECK(images_right(&s, rows, BATCH, images) && ftruncate(fd, 0) == 0);
    for (uint32_t nthreads = 1; nthreads < 4; nthreads++) {
        CHECK(gather_u8(&s.map, &index, rows, BATCH, images, nthreads, &where) == MAPIX_E_FAULT);
    }
    const mapix_gather flat = {.images = images, .images_nbytes = sizeof images, .flat_at = flat_at};
    CHECK(mapix_table_gather(&s.map, &index, rows, BATCH, &flat, &where) == MAPIX_E_FAULT);
    CHECK(mapix_table_extent(s.map.nbytes, &index, rows, BATCH, extent, flat_at, &where) == MAPIX_E_FAULT);
    CHECK(mapix_table_willneed(&s.map, &index, rows, BATCH, 0, &nasked, &where) == MAPIX_E_FAULT);
}

static atomic_int flipping;
static mapix_entry *flipped;

static void *flip_entry(void *two) {
    const mapix_entry *entries = two;
    for (unsigned i = 0; atomic_load(&flipping); i++) {
        *(volatile mapix_entry *)flipped = entries[i % 2];
    }
    return NULL;
}

/* Flat output is sized from the table in one pass and filled in a second; the table (another process's
 * file) may change between.  The file ends with its last, small record at a page's end, and an
 * unreadable page follows: reading a large record's bytes there would not go unseen. */
static void case_changing_table(void) {
    enum { ROOM = 65536, SMALL = 16, LARGE = ROOM - 2 * (HEAD + 1) - SMALL, ROWS = 8 };
    static uint8_t file[ROOM], images[ROWS * LARGE];
    const uint8_t large[] = {LARGE & 255, LARGE >> 8, 1, 0, 1, 0}, small[] = {SMALL, 0, 1, 0, 1, 0};
    const uint64_t second_at = HEAD + 1 + LARGE;
    memset(file, 7, sizeof file);
    memcpy(file, large, sizeof large);
    memcpy(file + second_at, small, sizeof small);
    file[HEAD] = file[second_at + HEAD] = 0;
    const int fd = scene_file(ROOM, file);
    uint8_t *base = mmap(NULL, ROOM + 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(base != MAP_FAILED);
    CHECK(mmap(base, ROOM, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == base);
    const mapix_map map = {.base = base, .nbytes = ROOM, .fd = -1};
    const mapix_entry two[2] = {{0, LARGE, 1, 1, 0}, {second_at, SMALL, 1, 1, 0}};
    mapix_entry table[1] = {two[0]};
    flipped = table;
    atomic_store(&flipping, 1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, flip_entry, (void *)(uintptr_t)two) == 0);
    const mapix_table index = {.nrecords = 1, .entries = table, .head_nbytes = HEAD};
    const int64_t rows[ROWS] = {0};
    uint64_t flat_at[ROWS + 1], nstale = 0;
    const mapix_gather g = {.images = images, .images_nbytes = sizeof images, .flat_at = flat_at};
    const time_t end = time(NULL) + 1;
    for (uint64_t turn = 0; time(NULL) <= end || turn < 1000; turn++) {
        mapix_where where;
        uint64_t extent[7];
        int status = mapix_table_extent(map.nbytes, &index, rows, ROWS, extent, flat_at, &where);
        CHECK(status == MAPIX_OK || status == MAPIX_E_SPAN); /* half of one entry, half of another */
        if (status) {
            continue;
        }
        status = mapix_table_gather(&map, &index, rows, ROWS, &g, &where);
        CHECK(status == MAPIX_OK || status == MAPIX_E_STALE || status == MAPIX_E_SPAN);
        nstale += status == MAPIX_E_STALE;
    }
    atomic_store(&flipping, 0);
    CHECK(pthread_join(thread, NULL) == 0);
    printf("stale=%lu\n", (unsigned long)nstale);
}

/* --- records that are on the disk -----------------------------------------------------------------*/

static uint64_t asked_for(const scene *s, unsigned pages, uint32_t probe, uint64_t n, uint8_t *images) {
    static int64_t rows[2 * NRECORDS];
    uint64_t nasked = 0;
    const mapix_gather g = {.images = images, .images_nbytes = n * IMAGE, .h = SIDE, .w = SIDE, .c = PLANES,
                            .probe = probe, .nasked = &nasked};
    mapix_where where;
    some_rows(s, rows, n, pages + probe);
    residence = pages;
    residence_ncalls = 0;
    CHECK(mapix_table_gather(&s->map, &s->index, rows, n, &g, &where) == MAPIX_OK);
    CHECK(images_right(s, rows, n, images));
    const uint64_t found = nasked;
    rows[n - 1] = NRECORDS;
    CHECK(mapix_table_gather(&s->map, &s->index, rows, n, &g, &where) == MAPIX_E_ROW && where.record == n - 1);
    return found;
}

/* Records that are large, of which a disk gets some MiB at once. */
static void ask_for_large(void) {
    enum { LARGE = 1 << 10, NLARGE = 40 };
    const uint64_t nbytes = (uint64_t)NLARGE * LARGE * LARGE;
    const int fd = scene_file(1, "x");
    CHECK(ftruncate(fd, (off_t)nbytes) == 0);
    const uint8_t *base = mmap(NULL, nbytes, PROT_READ, MAP_SHARED, fd, 0);
    uint8_t *images = malloc(nbytes);
    CHECK(base != MAP_FAILED && images);
    const mapix_map map = {.base = base, .nbytes = nbytes, .fd = -1};
    const mapix_table table = {.nrecords = NLARGE, .stride = LARGE * LARGE, .first = {0, LARGE, LARGE, 1, 0}};
    int64_t rows[NLARGE];
    for (int i = 0; i < NLARGE; i++) {
        rows[i] = i * 7 % NLARGE;
    }
    uint64_t nasked = 0;
    mapix_where where;
    CHECK(mapix_table_willneed(&map, &table, rows, NLARGE, MAPIX_PROBE_NONE, &nasked, &where) == MAPIX_OK);
    CHECK(nasked == NLARGE);
    const mapix_gather g = {.images = images, .images_nbytes = nbytes, .h = LARGE, .w = LARGE, .c = 1,
                            .probe = MAPIX_PROBE_NONE, .nasked = &nasked};
    nasked = 0;
    CHECK(mapix_table_gather(&map, &table, rows, NLARGE, &g, &where) == MAPIX_OK && nasked == NLARGE);
    for (int i = 0; i < NLARGE; i++) {
        CHECK(images[(uint64_t)i * LARGE * LARGE] == (rows[i] ? 0 : 'x'));
    }
    free(images);
    CHECK(munmap((void *)(uintptr_t)base, nbytes) == 0 && close(fd) == 0);
}

/* Records are asked for where some of those that are tested are on the disk, and copied as they come; the error
 * is that of the first bad row. */
static void case_cold(void) {
    const scene s = scene_make(NRECORDS);
    uint8_t *images = malloc(2 * NRECORDS * IMAGE);
    CHECK(images);
    for (uint64_t n = 1; n <= 2 * NRECORDS; n = n * 9 + 3) { /* 2 * 600: more than are sorted together */
        CHECK(asked_for(&s, 255, 1, n, images) == n);
        CHECK(asked_for(&s, RESIDENCE_FAILS, 1, n, images) == 0); /* taken to be in memory */
        CHECK(asked_for(&s, 1 << 4, 2, n, images) == 0);
        CHECK(asked_for(&s, 1 << 1, 2, n, images) == (n > 1 ? n : 0));
        CHECK(asked_for(&s, 0, MAPIX_PROBE_NONE, n, images) == n);
    }
    CHECK(asked_for(&s, 255, 1, 2 * NRECORDS, images) == 2 * NRECORDS);
    mapix_map unchecked = s.map;
    unchecked.fd = -1;
    CHECK(pwrite(s.fd, "\1", 1, 5 * STRIDE) == 1); /* another height: no record that is copied on the way */
    const int64_t rows[3] = {7, 5, 6};
    uint64_t nasked = 9;
    const mapix_gather g = {.images = images, .images_nbytes = 3 * IMAGE, .h = SIDE, .w = SIDE, .c = PLANES,
                            .probe = 1, .nasked = &nasked};
    mapix_where where;
    residence = 255;
    CHECK(mapix_table_gather(&unchecked, &s.index, rows, 3, &g, &where) == MAPIX_E_STALE && where.record == 5);
    CHECK(nasked == 0);
    free(images);
    ask_for_large();
}

/* --- threads and forks ------------------------------------------------------------------------*/

static pthread_barrier_t barrier;

static void *first_call(void *arg) {
    static _Thread_local uint8_t image[IMAGE];
    const scene *s = arg;
    const int64_t row = 5;
    mapix_where where;
    pthread_barrier_wait(&barrier);
    const int status = gather_u8(&s->map, &s->index, &row, 1, image, 1, &where);
    return (void *)(uintptr_t)(status || !images_right(s, &row, 1, image));
}

/* Thirty-two threads whose first guarded call in the process falls together: all arm the guard. */
static void case_first_calls(void) {
    enum { NTHREADS = 32 };
    scene s = scene_make(10);
    for (int i = 0; i < 50; i++) {
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            pthread_t threads[NTHREADS];
            uintptr_t bad = 0;
            CHECK(pthread_barrier_init(&barrier, NULL, NTHREADS) == 0);
            for (int k = 0; k < NTHREADS; k++) {
                CHECK(pthread_create(&threads[k], NULL, first_call, &s) == 0);
            }
            for (int k = 0; k < NTHREADS; k++) {
                void *result;
                CHECK(pthread_join(threads[k], &result) == 0);
                bad |= (uintptr_t)result;
            }
            _exit(bad != 0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}

static void *gather_with_all_blocked(void *arg) {
    static uint8_t image[IMAGE];
    const scene *s = arg;
    const int64_t row = NRECORDS - 1;
    sigset_t all;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
    mapix_map map = s->map;
    map.fd = -1;
    mapix_where where;
    for (int i = 0; i < 3; i++) {
        CHECK(gather_u8(&map, &s->index, &row, 1, image, 1, &where) == MAPIX_E_FAULT);
        CHECK(where.record == NRECORDS - 1);
    }
    return NULL;
}

/* A thread that blocks all signals, as libraries' own threads like to do. */
static void case_blocked(void) {
    scene s = scene_make(NRECORDS);
    scene_cut(&s, page_nbytes());
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, gather_with_all_blocked, &s) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static atomic_int forks_over;

static void *gather_on(void *arg) {
    const scene *s = arg;
    uint8_t *images = malloc(BATCH * IMAGE);
    int64_t rows[BATCH];
    mapix_where where;
    CHECK(images);
    for (uint64_t turn = 0; !atomic_load(&forks_over); turn++) {
        some_rows(s, rows, BATCH, turn);
        CHECK(gather_u8(&s->map, &s->index, rows, BATCH, images, 3, &where) == MAPIX_OK);
        CHECK(images_right(s, rows, BATCH, images));
    }
    free(images);
    return NULL;
}

/* Children made while the pool is at work gather with a pool of their own. */
static void case_fork(void) {
    static uint8_t images[BATCH * IMAGE];
    scene s = scene_make(NRECORDS);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, gather_on, &s) == 0);
    }
    for (uint64_t turn = 0; turn < 100; turn++) {
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            int64_t rows[BATCH];
            mapix_where where;
            alarm(20);
            some_rows(&s, rows, BATCH, turn);
            for (int i = 0; i < 5; i++) {
                CHECK(gather_u8(&s.map, &s.index, rows, BATCH, images, 3, &where) == MAPIX_OK);
                CHECK(images_right(&s, rows, BATCH, images));
            }
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    atomic_store(&forks_over, 1);
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

int main(int argc, char **argv) {
    static const named_case cases[] = {{"cut", case_cut},
                                       {"lost_table", case_lost_table},
                                       {"changing_table", case_changing_table},
                                       {"cold", case_cold},
                                       {"first_calls", case_first_calls},
                                       {"blocked", case_blocked},
                                       {"fork", case_fork}};
    seconds = argc > 2 ? atoi(argv[2]) : seconds;
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
