/* permute_body.h - n positions through the network, VECTOR of them side by side; see simd.h. */
TARGET static void NAME(step)(const permute_network *f, uint64_t x[GROUP], unsigned n) {
    for (uint64_t *group = x; group < x + n; group += VECTOR) {
        uint32_t low[VECTOR], high[VECTOR];
        for (unsigned i = 0; i < VECTOR; i++) {
            low[i] = (uint32_t)group[i] & f->low_mask;
            high[i] = (uint32_t)(group[i] >> f->low_bits) & f->high_mask;
        }
        for (unsigned r = 0; r < f->nrounds; r += 2) {
            for (unsigned i = 0; i < VECTOR; i++) {
                high[i] ^= permute_mixed(low[i] ^ f->keys[r]) & f->high_mask;
                low[i] ^= permute_mixed(high[i] ^ f->keys[r + 1]) & f->low_mask;
            }
        }
        for (unsigned i = 0; i < VECTOR; i++) {
            group[i] = (uint64_t)high[i] << f->low_bits | low[i];
        }
    }
}
