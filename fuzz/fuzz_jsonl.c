/* fuzz_jsonl.c - lines of a text file: the core in one call and in many, beside a byte at a time.
 *
 * Four bytes of order (step, capacity, what is wanted, where the file is cut), then the text: a byte stands for
 * itself, but for a few that stand for what matters between lines. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

enum {
    SHORT_NBYTES = 256, /* of nearly all texts */
    LONG_NBYTES = 9000, /* of those whose file is cut: three pages */
    MOST_CALLS = 10,    /* with the step and the capacity of the order; one call reads the rest */
};

typedef struct {
    uint64_t begins[LONG_NBYTES], numbers[LONG_NBYTES];
    uint64_t n, nlines, longest;
} slow_lines;

/* Read one byte after the other, as the contract says it. */
static void slow(const uint8_t *text, uint64_t nbytes, slow_lines *s) {
    s->n = s->nlines = s->longest = 0;
    const int marked = nbytes >= 3 && text[0] == 0xef && text[1] == 0xbb && text[2] == 0xbf;
    uint64_t begin = marked ? 3 : 0;
    while (begin < nbytes) {
        uint64_t end = begin;
        int busy = 0;
        for (; end < nbytes && text[end] != '\n'; end++) {
            busy |= text[end] != ' ' && text[end] != '\t' && text[end] != '\r';
        }
        s->nlines++;
        if (busy) {
            s->begins[s->n] = begin;
            s->numbers[s->n++] = s->nlines;
            s->longest = end - begin > s->longest ? end - begin : s->longest;
        }
        begin = end + 1;
    }
}

static void check_text(const mapix_map *map, const slow_lines *want, uint64_t step, uint64_t room,
                       unsigned kind) {
    mapix_lines state = {0};
    uint64_t n = 0, ncalls = 0;
    while (state.at < map->nbytes) {
        if (ncalls == MOST_CALLS) {
            step = UINT64_MAX;
            room = UINT64_MAX;
        }
        const uint64_t left = want->n - n, most = room < left + 1 ? room : left + 1;
        uint64_t *begins = kind & 1 ? NULL : block(most * 8);
        uint64_t *numbers = kind & 2 ? NULL : block(most * 8);
        const uint64_t before = state.at, stop = step > UINT64_MAX - before ? UINT64_MAX : before + step;
        uint64_t found = 77;
        CHECK(mapix_jsonl_lines(map, &state, stop, begins, numbers, most, &found) == MAPIX_OK);
        CHECK(found <= most && found <= left && state.nrecords == n + found);
        CHECK(state.begin <= state.at && state.at <= map->nbytes && state.busy <= 1);
        CHECK(state.at > before); /* it goes on, or the loop would not end */
        CHECK(begins == NULL || memcmp(begins, want->begins + n, found * 8) == 0);
        CHECK(numbers == NULL || memcmp(numbers, want->numbers + n, found * 8) == 0);
        n += found;
        free(begins);
        free(numbers);
        ncalls++;
    }
    CHECK(n == want->n && state.nlines == want->nlines && state.longest == want->longest);
}

/* A file whose tail is gone: a fault, the state as it was; or what does not touch the tail.  One file
 * and one mapping serve all inputs: making them took ten times as long as all else. */
static void check_cut(const uint8_t *text, uint64_t nbytes, unsigned cut) {
    static int fd = -1;
    static uint8_t *base;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t most = (LONG_NBYTES + page - 1) / page * page;
    const uint64_t whole = (nbytes + page - 1) / page, kept = cut % whole * page;
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        base = mmap(NULL, most, PROT_READ, MAP_SHARED, fd, 0);
        CHECK(fd >= 0 && base != MAP_FAILED);
    }
    CHECK(pwrite(fd, text, nbytes, 0) == (ssize_t)nbytes && ftruncate(fd, (off_t)kept) == 0);
    const mapix_map map = {.base = base, .nbytes = nbytes, .fd = -1};
    mapix_lines state = {0};
    const mapix_lines before = state;
    uint64_t found = 77;
    const int status = mapix_jsonl_lines(&map, &state, UINT64_MAX, NULL, NULL, UINT64_MAX, &found);
    CHECK(status == (nbytes > kept ? MAPIX_E_FAULT : MAPIX_OK));
    CHECK(status == MAPIX_OK || (memcmp(&state, &before, sizeof state) == 0 && found == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    static const char *const words[] = {"\n", "\r\n", "\n\n", " \t\r\n", "{}\n", "\xef\xbb\xbf", "\r", ""};
    static uint8_t room_for_text[LONG_NBYTES];
    static slow_lines want;
    input in = {data, nbytes};
    const uint64_t step = take_n(&in, 2), room = 1 + (uint64_t)take(&in);
    const unsigned kind = take(&in);
    const int cut = (kind & 0xf8) == 0xf8; /* few: a mapping costs more than all else */
    draft d = {.bytes = room_for_text, .room = cut ? LONG_NBYTES : SHORT_NBYTES};
    while (in.left && d.nbytes < d.room) {
        const uint8_t c = take(&in);
        const char *word = words[c & 7];
        if (c >= 0xf8) { /* many of the byte that follows: lines longer than a step */
            const uint8_t again = take(&in);
            for (unsigned k = 0; k < (cut ? 400u : 40u) << (c & 3); k++) {
                put(&d, again);
            }
        } else if (c >= 0xf0 || kind & 4) {
            for (; *word; word++) {
                put(&d, (uint8_t)*word);
            }
        } else {
            put(&d, c);
        }
    }
    uint8_t *text = block(d.nbytes);
    memcpy(text, d.bytes, d.nbytes);
    const mapix_map map = {.base = text, .nbytes = d.nbytes, .fd = -1};
    slow(text, d.nbytes, &want);
    check_text(&map, &want, step + 1, room, kind & 3);
    check_text(&map, &want, UINT64_MAX, UINT64_MAX, 0);
    if (cut && d.nbytes) {
        check_cut(text, d.nbytes, (unsigned)step);
    }
    uint64_t found;
    const mapix_lines bad[3] = {{.at = d.nbytes + 1}, {.at = 0, .begin = 1}, {.busy = 2}};
    for (int k = 0; k < 3; k++) {
        mapix_lines state = bad[k];
        CHECK(mapix_jsonl_lines(&map, &state, 9, NULL, NULL, 9, &found) == MAPIX_E_ARGUMENT);
    }
    free(text);
    return 0;
}
