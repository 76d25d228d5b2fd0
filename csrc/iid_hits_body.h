/* iid_hits_body.h - windows one after the other; see simd.h. */

/* For a group of windows, first search the tree and prefetch the bits of what it finds; then read them. */
TARGET static int NAME(find_hits)(void *arg) {
    hits_job *job = arg;
    while (job->window < job->nwindows) {
        const uint16_t *windows = job->windows + 4 * job->window;
        const uint64_t left = job->capacity - job->nfound, more = job->nwindows - job->window;
        uint32_t *here = job->found + job->nfound;
        uint64_t ends[GROUP], n = 0, total = 0, kept = 0;
        for (; n < GROUP && n < more && total < MOST_AHEAD; n++) {
            const uint64_t met = NAME(tree_search)(job->parts->nodes, &job->shape, windows + 4 * n,
                                                   0, 1, here + total, left - total);
            if (2 * (total + met) > left) { /* the other half is to sort in */
                break;
            }
            for (uint64_t i = total; i < total + met; i++) {
                prefetch_part(job, here[i], windows + 4 * n);
            }
            total += met;
            ends[n] = total;
        }
        if (!n) {
            return MAPIX_OK; /* the caller repeats it with a larger output */
        }
        for (uint64_t g = 0, begin = 0; g < n; begin = ends[g++]) {
            const uint64_t hits = keep_hits(job, windows + 4 * g, here + begin, ends[g] - begin,
                                            here + kept, here + total);
            job->counts[job->window + g] = (uint32_t)hits;
            kept += hits;
        }
        job->nfound += kept;
        job->window += n;
    }
    return MAPIX_OK;
}
