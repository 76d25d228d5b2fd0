/* iid_overlap_body.h - the join of a tree with itself; see simd.h. */

/* Pixels that two bitmaps share in a part of both: rows of up to 57 pixels are one load of each. */
TARGET static inline uint32_t NAME(count_both)(const iid_bitmap *a, const iid_bitmap *b,
                                               const uint16_t part[4]) {
    const uint32_t w = (uint32_t)part[MAXC] - part[MINC], h = (uint32_t)part[MAXR] - part[MINR];
    const uint64_t step_a = a->stride, step_b = b->stride;
    uint64_t at_a = (part[MINR] - a->box[MINR]) * step_a + (uint64_t)(part[MINC] - a->box[MINC]);
    uint64_t at_b = (part[MINR] - b->box[MINR]) * step_b + (uint64_t)(part[MINC] - b->box[MINC]);
    uint32_t found = 0;
    const uint32_t whole = (w - 1) / 56, rest = w - 56 * whole; /* 1..56 */
    for (uint32_t row = 0; row < h; row++, at_a += step_a, at_b += step_b) {
        uint64_t x = at_a, y = at_b;
        for (uint32_t k = 0; k < whole; k++, x += 56, y += 56) {
            const uint64_t both = iid_load(a->bits, x) & iid_load(b->bits, y);
            found += (uint32_t)__builtin_popcountll(both >> 8);
        }
        const uint64_t both = iid_load(a->bits, x) & iid_load(b->bits, y);
        found += (uint32_t)__builtin_popcountll(both >> (64 - rest));
    }
    return found;
}

/* Pixels that the leader shares with another leaf. */
TARGET static int NAME(share)(join_job *job, uint64_t leaf, uint32_t other, uint32_t *count) {
    const mapix_place *a = &job->join->places[leaf], *b = &job->join->places[other];
    uint16_t part[4];
    iid_bitmap flat;
    int status = MAPIX_OK, there = job->flat;
    *count = 0;
    if (!iid_meet(a->box, b->box, part)) {
        return MAPIX_OK;
    }
    if (there && b->at == MAPIX_SEVERAL) {
        there = flatten(job, other, part, 1, &flat, &status);
    } else if (there && (there = in_map(job, other))) {
        flat = bitmap_of(job, other);
    }
    if (status) {
        return status;
    }
    const uint64_t w = (uint64_t)part[MAXC] - part[MINC];
    if (!there) {
        const located one = located_at(job, leaf), two = located_at(job, other);
        return shared_of(&job->slow, &one, &two, count);
    }
    job->work += 2 * (uint64_t)(part[MAXR] - part[MINR]) * (w / 56 + 1);
    *count = NAME(count_both)(&job->leader, &flat, part);
    return MAPIX_OK;
}

/* Whether a leaf that a leader meets is compared in this turn: one of several regions leads all of
 * one, so that it is combined once, and those after it. */
static inline int NAME(is_led)(const mapix_place *places, uint64_t leader, uint32_t leaf) {
    const int several = places[leader].at == MAPIX_SEVERAL;
    if (!places[leaf].at || leaf == leader) {
        return 0;
    }
    return places[leaf].at == MAPIX_SEVERAL ? several && leaf > leader : several || leaf > leader;
}

/* Compare the leader with all leaves that it leads, from leaf pairs->next_leaf on; *done once none is left. */
TARGET static int NAME(join_leader)(join_job *job, int *done) {
    mapix_iid_pairs *pairs = job->pairs;
    const mapix_iid_join *join = job->join;
    const uint64_t leader = pairs->leader;
    for (*done = 0; job->work + job->slow.work < MOST_WORK;) {
        const uint64_t met = NAME(tree_search)(join->nodes, &job->shape, join->places[leader].box,
                                               pairs->next_leaf, 0, job->met, CHUNK);
        job->work += A_PAIR * met;
        for (uint64_t i = 0; i < met; i++) {
            if (i + NEXT < met) {
                prefetch_place(job, job->met[i + NEXT]);
            }
            if (!NAME(is_led)(join->places, leader, job->met[i])) {
                continue;
            }
            if (pairs->n == pairs->capacity) {
                pairs->next_leaf = job->met[i];
                return MAPIX_OK;
            }
            uint32_t count;
            const int status = NAME(share)(job, leader, job->met[i], &count);
            if (status) {
                return status;
            }
            const uint32_t a = join->keys[leader], b = join->keys[job->met[i]];
            uint32_t *pair = pairs->pairs + 3 * pairs->n;
            pair[0] = a < b ? a : b;
            pair[1] = a < b ? b : a;
            pair[2] = count;
            pairs->n += count > 0;
        }
        if (met < CHUNK) {
            *done = 1;
            return MAPIX_OK;
        }
        pairs->next_leaf = (uint64_t)job->met[CHUNK - 1] + 1;
    }
    return MAPIX_OK;
}

TARGET static int NAME(join_all)(void *arg) {
    join_job *job = arg;
    mapix_iid_pairs *pairs = job->pairs;
    while (pairs->leader < job->join->n && job->work + job->slow.work < MOST_WORK && pairs->n < pairs->capacity) {
        const mapix_place *place = &job->join->places[pairs->leader];
        const located leader = located_at(job, pairs->leader);
        reading(&job->slow, &leader);
        int done = !place->at, status = done ? MAPIX_OK : set_leader(job, pairs->leader);
        if (!pairs->next_leaf && place->at != MAPIX_SEVERAL) {
            pairs->next_leaf = pairs->leader + 1;
        }
        job->work += A_LEADER; /* of going through the tree */
        status = status || done ? status : NAME(join_leader)(job, &done);
        if (status) {
            return status;
        }
        if (done) {
            pairs->leader++;
            pairs->next_leaf = 0;
        }
    }
    return MAPIX_OK;
}
