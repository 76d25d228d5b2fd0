/* tsan_gather.c - everything at once, for ThreadSanitizer: first two threads of which each has a fault
 * under the guard, then threads that gather (with the pool) and walk one shared map, one that cuts
 * and restores the file, one that forks.
 *
 * Usage: tsan_gather [SECONDS].  Exit 0 and a line of counts; races are the sanitizer's to report
 * (it makes the exit status 66).  Run it with TSAN_OPTIONS=die_after_fork=0. */
#include "scene.h"

#include "guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

enum { NWORKERS = 4, BATCH = 64, NMEET = 2 };

static scene shared;
static atomic_int stop;
static atomic_ulong nbatches, nwalks, nforks, ncuts;

static void pause_ms(long ms) {
    const struct timespec t = {0, ms * 1000000};
    nanosleep(&t, NULL);
}

static void gather_once(uint64_t turn, int by_table, uint8_t *images, float *floats) {
    int64_t rows[BATCH];
    uint8_t labels[BATCH * 2], present[BATCH * 2];
    static const float affine[6] = {0.5f, 1, 0.25f, 2, 2, 3};
    static const int16_t columns[256] = {0, 1};
    some_rows(&shared, rows, BATCH, turn);
    mapix_table index = shared.index;
    if (by_table) {
        index.entries = shared.entries;
        index.stride = 0;
    }
    mapix_gather g = {.images = (uint8_t *)images, .images_nbytes = BATCH * IMAGE, .h = SIDE, .w = SIDE};
    g.c = PLANES;
    g.columns = columns;
    g.ncolumns = 2;
    g.labels = labels;
    g.present = present;
    g.nthreads = 1 + (uint32_t)(turn % 4);
    g.probe = turn % 3 == 2 ? MAPIX_PROBE_NONE : (uint32_t)(turn % 3);
    if (turn % 5 == 0) {
        g.images = (uint8_t *)floats;
        g.images_nbytes *= sizeof *floats;
        g.dtype = MAPIX_F32;
        g.layout = MAPIX_NHWC;
        g.affine = affine;
    }
    mapix_map map = shared.map;
    map.fd = turn % 2 ? map.fd : -1;
    mapix_where where;
    const int status = mapix_table_gather(&map, &index, rows, BATCH, &g, &where);
    CHECK(status == MAPIX_OK || status == MAPIX_E_FAULT || status == MAPIX_E_CHANGED ||
          status == MAPIX_E_STALE);
    uint64_t extent[7];
    CHECK(mapix_table_extent(map.nbytes, &index, rows, BATCH, extent, NULL, &where) == MAPIX_OK);
    atomic_fetch_add(&nbatches, 1);
}

static void walk_once(uint64_t turn, mapix_entry *entries, mapix_entry *scratch) {
    mapix_walk walk = {.head_nbytes = HEAD};
    mapix_map map = shared.map;
    map.fd = -1;
    uint64_t n;
    if (turn % 3 == 0) {
        (void)mapix_vimh_run(&map, &walk, UINT64_MAX);
    } else if (turn % 3 == 1) {
        (void)mapix_vimh_hop(&map, &walk, UINT64_MAX, entries, shared.nrecords, &n);
    } else {
        (void)mapix_vimh_table(&map, &walk, UINT64_MAX, entries, shared.nrecords, scratch, &n);
    }
    atomic_fetch_add(&nwalks, 1);
}

static void *work(void *seed) {
    uint64_t turn = (uint64_t)(uintptr_t)seed;
    uint8_t *images = malloc(BATCH * IMAGE);
    float *floats = malloc(BATCH * IMAGE * sizeof *floats);
    mapix_entry *entries = malloc(shared.nrecords * sizeof *entries);
    mapix_entry *scratch = malloc(mapix_scratch_entries() * sizeof *scratch);
    CHECK(images && floats && entries && scratch);
    while (!atomic_load(&stop)) {
        turn++;
        gather_once(turn, turn % 2, images, floats);
        if (turn % 8 == 0) {
            walk_once(turn / 8, entries, scratch);
        }
    }
    free(images);
    free(floats);
    free(entries);
    free(scratch);
    return NULL;
}

static void *cut_and_restore(void *unused) {
    while (!atomic_load(&stop)) {
        pause_ms(3);
        scene_cut(&shared, shared.map.nbytes / 3);
        pause_ms(3);
        scene_restore(&shared);
        atomic_fetch_add(&ncuts, 1);
    }
    return unused;
}

/* The child gathers by itself: ThreadSanitizer cannot follow new threads there. */
static void fork_once(uint64_t turn) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        static uint8_t images[BATCH * IMAGE];
        int64_t rows[BATCH];
        mapix_where where;
        some_rows(&shared, rows, BATCH, turn);
        mapix_map map = shared.map;
        map.fd = -1;
        const int status = gather_u8(&map, &shared.index, rows, BATCH, images, 1, &where);
        _exit(status == MAPIX_OK || status == MAPIX_E_FAULT || status == MAPIX_E_STALE ? 0 : 3);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    atomic_fetch_add(&nforks, 1);
}

/* Two threads meet inside the guard, and then read what the file lost: nothing orders the faults, so
 * that ThreadSanitizer sees a race of their handlers whichever comes first. */
static pthread_barrier_t both_are_guarded;

static int meet_and_read(void *at) {
    (void)pthread_barrier_wait(&both_are_guarded);
    return *(volatile uint8_t *)at;
}

static void *guarded_fault(void *at) {
    CHECK(mapix_guarded(&shared.map, NULL, meet_and_read, at) == MAPIX_E_FAULT);
    return NULL;
}

static void faults_that_nothing_orders(void) {
    pthread_t threads[NMEET];
    scene_cut(&shared, 0);
    CHECK(pthread_barrier_init(&both_are_guarded, NULL, NMEET) == 0);
    for (int i = 0; i < NMEET; i++) {
        uint8_t *at = (uint8_t *)shared.map.base + (uint64_t)i * page_nbytes();
        CHECK(pthread_create(&threads[i], NULL, guarded_fault, at) == 0);
    }
    for (int i = 0; i < NMEET; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(mapix_faults_caught() == NMEET);
    scene_restore(&shared);
}

static int enough(void) {
    return atomic_load(&nbatches) && atomic_load(&nwalks) && atomic_load(&ncuts) &&
           atomic_load(&nforks) && mapix_faults_caught() > NMEET;
}

int main(int argc, char **argv) {
    shared = scene_make(1000);
    faults_that_nothing_orders();
    pthread_t threads[NWORKERS + 1];
    for (int i = 0; i < NWORKERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(1000 * i)) == 0);
    }
    CHECK(pthread_create(&threads[NWORKERS], NULL, cut_and_restore, NULL) == 0);
    const time_t end = time(NULL) + atoi(argc > 1 ? argv[1] : "3");
    /* and on until there was something to see: on a busy machine seconds say nothing */
    for (uint64_t turn = 0; time(NULL) < end || (!enough() && time(NULL) < end + 120); turn++) {
        pause_ms(50);
        fork_once(turn);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i <= NWORKERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    printf("batches=%lu walks=%lu cuts=%lu forks=%lu faults=%lu\n", atomic_load(&nbatches),
           atomic_load(&nwalks), atomic_load(&ncuts), atomic_load(&nforks),
           (unsigned long)mapix_faults_caught());
    CHECK(enough());
    return 0;
}
