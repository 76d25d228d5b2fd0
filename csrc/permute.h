/* permute.h - a random order of n records, computed a position at a time; also for a GPU.
 *
 * A Feistel network permutes the smallest power of two that holds n.  Positions that land at n or above
 * are sent through it again until they land below (cycle walking), which leaves a permutation of
 * 0..n-1.  The range is less than 2 n, so a position takes less than two steps on average. */
#ifndef MAPIX_PERMUTE_H
#define MAPIX_PERMUTE_H

#ifndef PERMUTE_INLINE
#define PERMUTE_INLINE static inline
#endif

enum {
    PERMUTE_ROUNDS = 6,
    PERMUTE_MOST_ROUNDS = 24, /* a small range has few keys a round and needs more of them */
    PERMUTE_SMALL_BITS = 12,
};

typedef struct {
    unsigned low_bits, nrounds;
    unsigned low_mask, high_mask;
    unsigned keys[PERMUTE_MOST_ROUNDS];
} permute_network;

/* Each bit of the result depends on each bit of x. */
PERMUTE_INLINE unsigned permute_mixed(unsigned x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

/* n is at most 2^62. */
PERMUTE_INLINE permute_network permute_network_of(unsigned long long n, unsigned long long key) {
    permute_network f;
    unsigned bits = 2;
    while (bits < 63 && (1ull << bits) < n) {
        bits++;
    }
    f.low_bits = bits / 2;
    f.nrounds = bits > PERMUTE_SMALL_BITS ? PERMUTE_ROUNDS : PERMUTE_MOST_ROUNDS;
    f.low_mask = (unsigned)((1ull << f.low_bits) - 1);
    f.high_mask = (unsigned)((1ull << (bits - f.low_bits)) - 1);
    for (unsigned r = 0; r < PERMUTE_MOST_ROUNDS; r++) {
        /* both halves of the key in each round, by the finaliser of SplitMix64 */
        key += 0x9e3779b97f4a7c15ull;
        unsigned long long k = (key ^ key >> 30) * 0xbf58476d1ce4e5b9ull;
        k = (k ^ k >> 27) * 0x94d049bb133111ebull;
        f.keys[r] = (unsigned)(k >> 32);
    }
    return f;
}

/* One step through the network. */
PERMUTE_INLINE unsigned long long permute_step(const permute_network *f, unsigned long long x) {
    unsigned low = (unsigned)x & f->low_mask, high = (unsigned)(x >> f->low_bits) & f->high_mask;
    for (unsigned r = 0; r < f->nrounds; r += 2) {
        high ^= permute_mixed(low ^ f->keys[r]) & f->high_mask;
        low ^= permute_mixed(high ^ f->keys[r + 1]) & f->low_mask;
    }
    return (unsigned long long)high << f->low_bits | low;
}

#endif
