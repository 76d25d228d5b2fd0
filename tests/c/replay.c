/* replay.c - inputs of a fuzz target, run once each and with a few bytes changed, without libFuzzer.
 *
 * Linked with one target.  Usage: replay CHANGES FILE...  Exit 0 when every input passes; a check that fails
 * aborts, and the last line says which input it was. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);

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
static void run(const uint8_t *data, size_t nbytes) {
    uint8_t *copy = malloc(nbytes ? nbytes : 1);
    if (!copy) {
        exit(2);
    }
    memcpy(copy, data, nbytes);
    LLVMFuzzerTestOneInput(copy, nbytes);
    free(copy);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    const int changes = atoi(argv[1]);
    long ninputs = 0;
    static uint8_t data[ROOM];
    for (int i = 2; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (!f) {
            perror(argv[i]);
            return 2;
        }
        const size_t whole = fread(data, 1, MOST_NBYTES, f);
        fclose(f);
        printf("%s\n", argv[i]);
        run(data, whole);
        ninputs++;
        size_t nbytes = whole;
        for (int k = 0; k < changes; k++) {
            nbytes = changed(data, nbytes);
            run(data, nbytes);
            ninputs++;
        }
    }
    printf("inputs=%ld\n", ninputs);
    return 0;
}
