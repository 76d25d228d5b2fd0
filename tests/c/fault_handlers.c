/* fault_handlers.c - the guard among other owners of SIGBUS: handlers before it, after it, that
 * mend, give up, jump away, call back; signals that are sent.
 *
 * Usage: fault_handlers CASE; fault_handlers list.  Exit 0 when the case holds. */
#include "scene.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

static scene s;           /* cut down to one page: its last record faults */
static uint8_t *foreign;  /* two pages of another file; the second is lost */
static uint8_t image[IMAGE];
static volatile int *ncalls; /* of a handler of ours; shared with children */
static const void *volatile called_for;
static struct sigaction displaced;
static sigjmp_buf way_out;

static int gather_row(int64_t row, void *to) {
    mapix_where where;
    return gather_u8(&s.map, &s.index, &row, 1, to, 1, &where);
}

static int lost_row(void) {
    return gather_row((int64_t)s.nrecords - 1, image);
}

static void touch_foreign(void) {
    (void)*(volatile uint8_t *)(foreign + page_nbytes() + 10);
}

static void own(void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(SIGBUS, &action, &displaced) == 0);
}

static void leave_to(void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(SIGBUS, &action, NULL) == 0);
}

/* The signal that fn dies of in a child; 0 if it lives. */
static int death_of(void (*fn)(void)) {
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(20); /* not an endless loop in a handler */
        fn();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void send_to_self(void) {
    CHECK(kill(getpid(), SIGBUS) == 0);
}

/* --- handlers of others -----------------------------------------------------------------------*/

static void counts(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    ++*ncalls;
    called_for = info->si_addr;
}

static void mends(int sig, siginfo_t *info, void *context) {
    counts(sig, info, context);
    const uint64_t size = page_nbytes();
    void *page = (void *)((uintptr_t)info->si_addr & ~(uintptr_t)(size - 1));
    const int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (mmap(page, size, PROT_READ | PROT_WRITE, how, -1, 0) == MAP_FAILED) {
        _exit(9);
    }
}

static void jumps(int sig, siginfo_t *info, void *context) {
    counts(sig, info, context);
    siglongjmp(way_out, 1);
}

static void calls_back(int sig, siginfo_t *info, void *context) {
    counts(sig, info, context);
    displaced.sa_sigaction(sig, info, context);
}

static void raises(int sig, siginfo_t *info, void *context) {
    counts(sig, info, context);
    raise(sig);
}

/* --- cases ------------------------------------------------------------------------------------*/

/* A library puts its handler in the place of ours, without chaining, again and again. */
static void case_displaced(void) {
    CHECK(lost_row() == MAPIX_E_FAULT);
    for (int i = 0; i < 50; i++) {
        struct sigaction now;
        own(counts, i % 2 ? SA_NODEFER : 0);
        CHECK(lost_row() == MAPIX_E_FAULT && lost_row() == MAPIX_E_FAULT);
        CHECK(sigaction(SIGBUS, NULL, &now) == 0 && now.sa_sigaction != counts);
        leave_to(SIG_DFL);
        CHECK(lost_row() == MAPIX_E_FAULT);
    }
    CHECK(*ncalls == 0 && mapix_faults_caught() == 151);
}

/* A fault outside our maps goes to the handler that was there before: once. */
static void case_foreign_mended(void) {
    own(mends, 0);
    CHECK(lost_row() == MAPIX_E_FAULT && *ncalls == 0);
    touch_foreign();
    CHECK(*ncalls == 1 && called_for == foreign + page_nbytes() + 10);
    touch_foreign();
    CHECK(*ncalls == 1 && lost_row() == MAPIX_E_FAULT && *ncalls == 1);
}

/* The same while we are copying: it is the caller's buffer that is lost. */
static void case_foreign_inside(void) {
    own(mends, 0);
    memset(image, 0, sizeof image);
    CHECK(gather_row(0, foreign + page_nbytes()) == MAPIX_OK && *ncalls == 1);
    const int64_t row = 0;
    CHECK(images_right(&s, &row, 1, foreign + page_nbytes()));
    leave_to(SIG_DFL);
    CHECK(lost_row() == MAPIX_E_FAULT && lost_row() == MAPIX_E_FAULT);
}

static void gather_into_lost(void) {
    (void)gather_row(0, foreign + page_nbytes());
}

/* No handler before: a foreign fault kills, as it would without us. */
static void case_foreign_kills(void) {
    CHECK(lost_row() == MAPIX_E_FAULT);
    CHECK(death_of(touch_foreign) == SIGBUS && death_of(gather_into_lost) == SIGBUS);
    leave_to(SIG_IGN);
    CHECK(lost_row() == MAPIX_E_FAULT);
    CHECK(death_of(touch_foreign) == SIGBUS);
}

/* A handler that neither mends nor ends the process: no endless loop. */
static void case_foreign_stubborn(void) {
    own(counts, 0);
    CHECK(lost_row() == MAPIX_E_FAULT);
    CHECK(death_of(touch_foreign) == SIGBUS);
    CHECK(*ncalls >= 1 && *ncalls < 100);
}

static __attribute__((noinline)) int caught_at_depth(int depth) {
    volatile char room[512];
    room[0] = (char)depth;
    if (depth > 0) {
        return caught_at_depth(depth - 1) + room[0] * 0;
    }
    if (sigsetjmp(way_out, 1)) {
        return 1;
    }
    touch_foreign();
    return 0;
}

/* Another guard like ours: its handler leaves by siglongjmp, for the same page over and over. */
static void case_foreign_jumps(void) {
    own(jumps, 0);
    CHECK(lost_row() == MAPIX_E_FAULT);
    for (int i = 0; i < 60; i++) {
        CHECK(caught_at_depth(i % 20) == 1 && *ncalls == i + 1);
        CHECK(i % 3 || lost_row() == MAPIX_E_FAULT);
    }
    if (sigsetjmp(way_out, 1) == 0) {
        send_to_self();
    }
    CHECK(*ncalls == 61);
}

/* A handler that calls the one it displaced, which is ours, which hands on to it. */
static void case_foreign_calls_back(void) {
    CHECK(lost_row() == MAPIX_E_FAULT);
    own(calls_back, 0);
    CHECK(lost_row() == MAPIX_E_FAULT);
    CHECK(death_of(touch_foreign) == SIGBUS && *ncalls == 1);
    CHECK(death_of(send_to_self) == SIGBUS && *ncalls == 2);
}

static void case_foreign_raises(void) {
    CHECK(lost_row() == MAPIX_E_FAULT);
    own(raises, SA_NODEFER);
    CHECK(lost_row() == MAPIX_E_FAULT);
    CHECK(death_of(touch_foreign) == SIGBUS && *ncalls == 1);
}

/* kill -BUS does what it did before we came. */
static void case_sent(void) {
    CHECK(lost_row() == MAPIX_E_FAULT && death_of(send_to_self) == SIGBUS);
    leave_to(SIG_IGN);
    CHECK(lost_row() == MAPIX_E_FAULT && death_of(send_to_self) == 0);
    own(counts, 0);
    CHECK(lost_row() == MAPIX_E_FAULT && death_of(send_to_self) == 0 && *ncalls == 1);
}

#define OWNER(n) static void owner_##n(int sig) { *ncalls += sig ? (n) : 0; }
OWNER(1) OWNER(2) OWNER(3) OWNER(4) OWNER(5) OWNER(6) OWNER(7) OWNER(8)

/* Eight owners are remembered; with the ninth we refuse to read rather than fight. */
static void case_many_owners(void) {
    void (*const owners[])(int) = {owner_1, owner_2, owner_3, owner_4,
                                   owner_5, owner_6, owner_7, owner_8};
    CHECK(lost_row() == MAPIX_E_FAULT); /* the first: none */
    for (int i = 0; i < 7; i++) {
        leave_to(owners[i]);
        CHECK(lost_row() == MAPIX_E_FAULT);
    }
    CHECK(raise(SIGBUS) == 0 && *ncalls == 7);
    leave_to(owners[7]);
    errno = 0;
    CHECK(lost_row() == MAPIX_E_SYSTEM && errno == EBUSY);
    mapix_entry entry;
    mapix_where where;
    CHECK(mapix_table_find(&s.map, &s.index, 0, &entry, &where) == MAPIX_E_SYSTEM);
    mapix_walk walk = {.head_nbytes = HEAD};
    uint64_t n = 9;
    CHECK(mapix_vimh_hop(&s.map, &walk, UINT64_MAX, &entry, 1, &n) == MAPIX_E_SYSTEM);
    CHECK(n == 0 && walk.nrecords == 0 && walk.where.at == 0);
    leave_to(owners[2]);
    CHECK(lost_row() == MAPIX_E_FAULT && raise(SIGBUS) == 0 && *ncalls == 10);
}

static void make_scene(void) {
    s = scene_make(50);
    const uint64_t page = page_nbytes();
    scene_cut(&s, page);
    s.map.fd = -1;
    const int fd = scene_file(page, s.bytes);
    foreign = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ncalls = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(foreign != MAP_FAILED && ncalls != MAP_FAILED);
}

int main(int argc, char **argv) {
    static const named_case cases[] = {{"displaced", case_displaced},
                                       {"foreign_mended", case_foreign_mended},
                                       {"foreign_inside", case_foreign_inside},
                                       {"foreign_kills", case_foreign_kills},
                                       {"foreign_stubborn", case_foreign_stubborn},
                                       {"foreign_jumps", case_foreign_jumps},
                                       {"foreign_calls_back", case_foreign_calls_back},
                                       {"foreign_raises", case_foreign_raises},
                                       {"sent", case_sent},
                                       {"many_owners", case_many_owners}};
    make_scene();
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
