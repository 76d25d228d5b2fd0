/* fuzz_jsonl.c - lines of a text file: the core in one call and in many, beside a byte at a time.
 *
 * Four bytes of order (step, room, what is wanted, where the file is cut), then the text: a byte stands for
 * itself, but for a few that stand for what matters between lines. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

enum { MOST_NBYTES = 1 << 12 };

typedef struct {
    uint64_t *begins, *numbers;
    uint64_t n, nlines, longest;
} slow_lines;

/* One byte after the other, as the contract says it. */
static slow_lines slow(const uint8_t *text, uint64_t nbytes) {
    slow_lines s = {block((nbytes + 1) * 8), block((nbytes + 1) * 8), 0, 0, 0};
    const int marked = nbytes >= 3 && text[0] == 0xef && text[1] == 0xbb && text[2] == 0xbf;
    uint64_t begin = marked ? 3 : 0;
    while (begin < nbytes) {
        uint64_t end = begin;
        int busy = 0;
        for (; end < nbytes && text[end] != '\n'; end++) {
            busy |= text[end] != ' ' && text[end] != '\t' && text[end] != '\r';
        }
        s.nlines++;
        if (busy) {
            s.begins[s.n] = begin;
            s.numbers[s.n++] = s.nlines;
            s.longest = end - begin > s.longest ? end - begin : s.longest;
        }
        begin = end + 1;
    }
    return s;
}

static void check_text(const mapix_map *map, const slow_lines *want, uint64_t step, uint64_t room,
                       unsigned kind) {
    mapix_lines state = {0};
    uint64_t n = 0, ncalls = 0;
    while (state.at < map->nbytes) {
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
        CHECK(++ncalls <= map->nbytes + 1);
    }
    CHECK(n == want->n && state.nlines == want->nlines && state.longest == want->longest);
}

/* A file whose tail is gone: a fault, the state as it was; or what does not touch the tail. */
static void check_cut(const uint8_t *text, uint64_t nbytes, unsigned cut) {
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), whole = (nbytes + page - 1) / page * page;
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)whole) == 0);
    uint8_t *base = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(base != MAP_FAILED);
    memcpy(base, text, nbytes);
    const uint64_t kept = cut % (whole / page) * page;
    CHECK(ftruncate(fd, (off_t)kept) == 0);
    const mapix_map map = {.base = base, .nbytes = nbytes, .fd = -1};
    mapix_lines state = {0};
    const mapix_lines before = state;
    uint64_t found = 77;
    const int status = mapix_jsonl_lines(&map, &state, UINT64_MAX, NULL, NULL, UINT64_MAX, &found);
    CHECK(status == (nbytes > kept ? MAPIX_E_FAULT : MAPIX_OK));
    CHECK(status == MAPIX_OK || (memcmp(&state, &before, sizeof state) == 0 && found == 0));
    CHECK(munmap(base, whole) == 0 && close(fd) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    static const char *const words[] = {"\n", "\r\n", "\n\n", " \t\r\n", "{}\n", "\xef\xbb\xbf", "\r", ""};
    input in = {data, nbytes};
    const uint64_t step = take_n(&in, 2), room = 1 + (uint64_t)take(&in);
    const unsigned kind = take(&in);
    draft d = {.bytes = block(MOST_NBYTES), .room = MOST_NBYTES};
    while (in.left) {
        const uint8_t c = take(&in);
        const char *word = words[c & 7];
        if (c >= 0xf8) { /* many of the byte that follows: lines longer than a step */
            const uint8_t again = take(&in);
            for (unsigned k = 0; k < 40u << (c & 3); k++) {
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
    free(d.bytes);
    const mapix_map map = {.base = text, .nbytes = d.nbytes, .fd = -1};
    slow_lines want = slow(text, d.nbytes);
    check_text(&map, &want, step + 1, room, kind & 3);
    check_text(&map, &want, UINT64_MAX, d.nbytes + 1, 0);
    if (kind & 8 && d.nbytes) {
        check_cut(text, d.nbytes, kind >> 4);
    }
    uint64_t found;
    const mapix_lines bad[3] = {{.at = d.nbytes + 1}, {.at = 0, .begin = 1}, {.busy = 2}};
    for (int k = 0; k < 3; k++) {
        mapix_lines state = bad[k];
        CHECK(mapix_jsonl_lines(&map, &state, 9, NULL, NULL, 9, &found) == MAPIX_E_ARGUMENT);
    }
    free(want.begins);
    free(want.numbers);
    free(text);
    return 0;
}
