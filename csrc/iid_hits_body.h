/* iid_hits_body.h - windows one after the other; see simd.h. */

/* Search the tree for the next group of windows, and prefetch the bits of what it finds.  Reads nothing of the map, so
 * it needs no guard. */
TARGET static void NAME(find_group)(hits_job *job) {
    const uint16_t *windows = job->windows + 4 * job->window;
    const uint64_t left = job->capacity - job->nfound, more = job->nwindows - job->window;
    uint32_t *here = job->found + job->nfound;
    uint64_t n = 0, total = 0;
    for (; n < GROUP && n < more && total < MOST_AHEAD; n++) {
        const uint64_t met = NAME(tree_search)(job->parts->nodes, &job->shape, windows + 4 * n, 0, 1,
                                               here + total, left - total);
        if (2 * (total + met) > left) { /* the other half is to sort in */
            break;
        }
        for (uint64_t i = total; i < total + met; i++) {
            __builtin_prefetch(&job->parts->leaves[here[i]], 0, 3);
        }
        for (uint64_t i = total; i < total + met; i++) {
            prefetch_part(job, here[i], windows + 4 * n);
        }
        total += met;
        job->ends[n] = total;
    }
    job->ngroup = n;
}

/* Read the bits of a group, of which the first has been found already. */
TARGET static int NAME(find_hits)(void *arg) {
    hits_job *job = arg;
    while (job->ngroup) {
        const uint16_t *windows = job->windows + 4 * job->window;
        const uint64_t n = job->ngroup;
        uint32_t *here = job->found + job->nfound;
        uint64_t kept = 0;
        for (uint64_t g = 0, begin = 0; g < n; begin = job->ends[g++]) {
            const uint64_t hits = keep_hits(job, windows + 4 * g, here + begin, job->ends[g] - begin,
                                            here + kept, here + job->ends[n - 1]);
            job->counts[job->window + g] = (uint32_t)hits;
            kept += hits;
        }
        job->nfound += kept;
        job->window += n;
        NAME(find_group)(job);
    }
    return MAPIX_OK; /* if the next window does not fit, the caller repeats it with a larger output */
}
