/* replay.c - inputs of the fuzz targets, run once each and with a few bytes changed, without libFuzzer.
 *
 * Usage: replay TARGET CHANGES FILE...  Exit 0 when every input passes; a check that fails aborts, and
 * the last line says which input it was. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int target_fn(const uint8_t *data, size_t nbytes);
target_fn fuzz_walk, fuzz_gather, fuzz_augment, fuzz_small, fuzz_json, fuzz_jsonl, fuzz_iid, fuzz_join,
    fuzz_items, fuzz_pictures;

static const struct {
    const char *name;
    target_fn *run;
} targets[] = {{"walk", fuzz_walk}, {"gather", fuzz_gather}, {"augment", fuzz_augment},
               {"small", fuzz_small}, {"json", fuzz_json},   {"jsonl", fuzz_jsonl},
               {"iid", fuzz_iid},     {"join", fuzz_join},   {"items", fuzz_items},
               {"pictures", fuzz_pictures}};

enum { MOST_NBYTES = 1 << 16, ROOM = MOST_NBYTES + 8 };

static uint32_t seed = 1;

static uint32_t next_random(void) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

/* Change one thing: a byte, by one or to anything; or the length. */
static size_t changed(uint8_t *data, size_t nbytes) {
    const uint32_t how = next_random() % 8;
    const size_t at = nbytes ? next_random() % nbytes : 0;
    if (!nbytes || how == 0) {
        data[nbytes] = (uint8_t)next_random();
        return nbytes < MOST_NBYTES ? nbytes + 1 : nbytes;
    }
    if (how == 1) {
        return nbytes - 1;
    }
    if (how == 2) {
        memmove(data + at, data + at + 1, nbytes - at - 1);
        return nbytes - 1;
    }
    data[at] = how == 3   ? (uint8_t)next_random()
               : how == 4 ? 255
               : how == 5 ? 0
               : how == 6 ? (uint8_t)(data[at] + 1)
                          : (uint8_t)(data[at] - 1);
    return nbytes;
}

/* An input in a block of just its size, so that AddressSanitizer sees what is read beyond it. */
static void run(target_fn *target, const uint8_t *data, size_t nbytes) {
    uint8_t *copy = malloc(nbytes ? nbytes : 1);
    if (!copy) {
        exit(2);
    }
    memcpy(copy, data, nbytes);
    target(copy, nbytes);
    free(copy);
}

int main(int argc, char **argv) {
    target_fn *target = NULL;
    for (size_t i = 0; i < sizeof targets / sizeof *targets && argc > 2; i++) {
        target = strcmp(argv[1], targets[i].name) ? target : targets[i].run;
    }
    if (!target) {
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    const int changes = atoi(argv[2]);
    long ninputs = 0;
    static uint8_t data[ROOM];
    for (int i = 3; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (!f) {
            perror(argv[i]);
            return 2;
        }
        const size_t whole = fread(data, 1, MOST_NBYTES, f);
        fclose(f);
        printf("%s\n", argv[i]);
        run(target, data, whole);
        ninputs++;
        size_t nbytes = whole;
        for (int k = 0; k < changes; k++) {
            nbytes = changed(data, nbytes);
            run(target, data, nbytes);
            ninputs++;
        }
    }
    printf("inputs=%ld\n", ninputs);
    return 0;
}
