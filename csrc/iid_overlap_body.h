/* iid_overlap_body.h - the join of a tree with itself; see simd.h. */

/* Add the pixels of a region; returns how many words of it were read.  `roomy`: eight bytes can be read wherever
 * one of its bytes begins. */
TARGET static uint64_t NAME(add_region)(const iid_region *r, int roomy, const strips *s) {
    uint16_t part[4];
    if (!iid_meet(r->box, s->box, part)) {
        return 0;
    }
    const uint64_t w = r->box[MAXC] - r->box[MINC];
    const uint32_t h = (uint32_t)part[MAXR] - part[MINR];
    uint64_t nwords = 0;
    for (uint32_t c = part[MINC], next; c < part[MAXC]; c = next, nwords += h) {
        next = (c | 63) + 1 < part[MAXC] ? (c | 63) + 1 : part[MAXC];
        const unsigned shift = c & 63, n = next - c;
        const uint64_t mask = UINT64_MAX << (64 - n);
        uint64_t *to = strips_word(s, c >> 6, part[MINR]);
        uint64_t from = (part[MINR] - r->box[MINR]) * w + (uint64_t)(c - r->box[MINC]);
        if (!roomy) {
            for (uint32_t row = 0; row < h; row++, from += w) {
                to[row] |= (iid_word(r->bits, r->nbytes, from) & mask) >> shift;
            }
        } else if (n <= 57) {
            for (uint32_t row = 0; row < h; row++, from += w) {
                to[row] |= (iid_load(r->bits, from) & mask) >> shift;
            }
        } else {
            for (uint32_t row = 0; row < h; row++, from += w) {
                const uint64_t word = iid_load(r->bits, from) | iid_load(r->bits, from + 32) >> 32;
                to[row] |= (word & mask) >> shift;
            }
        }
    }
    return nwords;
}

/* Write the strips of what a leaf has in a box to `words`, of strips_nwords(box). */
TARGET static int NAME(make_strips)(join_job *job, uint64_t leaf, const uint16_t box[4], uint64_t *words,
                                    strips *made) {
    const mapix_place *p = &job->join->places[leaf];
    const uint64_t nbytes = 8 * strips_nwords(box);
    *made = strips_at(words, box);
    memset(words, 0, nbytes);
    job->work += nbytes / A_UNIT;
    iid_region r;
    if (p->at != MAPIX_SEVERAL) {
        memcpy(r.box, p->box, 8);
        r.bits = map_of(job, leaf)->base + p->at;
        job->work += NAME(add_region)(&r, 1, made);
        return MAPIX_OK;
    }
    const located of = located_at(job, leaf);
    iid_segment s;
    uint64_t at = 0;
    int more = 1;
    reading(&job->slow, &of);
    int status = iid_segment_of(of.map, of.iid, of.key, &s, &job->slow.where);
    while (!status && !(status = iid_next_region(&s, &at, &r, &more, &job->slow.where)) && more) {
        const uint64_t end = (uint64_t)(r.bits - of.map->base) + r.nbytes;
        job->work += REGION_HEAD / 4 + NAME(add_region)(&r, of.map->nbytes - end >= 8, made);
    }
    return status;
}

/* The strips of the leader: of all of it, which is kept for its other pairs, or of `part` alone if all is too large. */
TARGET static int NAME(lead)(join_job *job, uint64_t leaf, const uint16_t part[4], strips *made, int *fits) {
    const mapix_iid_join *join = job->join;
    const uint16_t *box = join->places[leaf].box;
    const uint64_t all = join->canvas_nwords;
    *fits = has_place(job, leaf) && strips_nwords(part) <= all;
    if (!*fits) {
        return MAPIX_OK;
    }
    const int whole = strips_nwords(box) <= all;
    const uint64_t *kept = kept_words(job, leaf);
    if (kept) {
        memcpy(join->canvas, kept, 8 * strips_nwords(box));
        job->work += strips_nwords(box);
        *made = job->leader = strips_at(join->canvas, box);
        return MAPIX_OK;
    }
    const int status = NAME(make_strips)(job, leaf, whole ? box : part, join->canvas, made);
    if (whole && !status) {
        job->leader = *made;
    }
    return status;
}

/* The strips of a leaf in the ring: of all of it, which is kept there, or of `part` alone. */
TARGET static int NAME(follow)(join_job *job, uint64_t leaf, const uint16_t part[4], strips *made, int *fits) {
    const mapix_iid_join *join = job->join;
    const uint16_t *box = join->places[leaf].box;
    const uint64_t all = join->canvas_nwords, of_part = strips_nwords(part);
    *fits = has_place(job, leaf) && of_part <= all;
    if (!*fits) {
        return MAPIX_OK;
    }
    const int whole = strips_nwords(box) <= all && strips_nwords(box) <= TIMES * of_part;
    const uint64_t nwords = whole ? strips_nwords(box) : of_part;
    uint64_t begin = job->pairs->taken;
    if (job->lap + all - begin < nwords) {
        job->lap += all; /* what was made longest ago is overwritten */
        begin = job->lap;
    }
    job->pairs->taken = begin + nwords;
    uint64_t *words = join->canvas + all + (begin - job->lap);
    const int status = NAME(make_strips)(job, leaf, whole ? box : part, words, made);
    if (whole && !status) {
        join->kept[leaf] = begin + 1;
    }
    return status;
}

/* Pixels that two segments of one region share in a part of both, as the file has them: rows of up to 56 pixels are
 * one load of each. */
TARGET static inline uint32_t NAME(count_packed)(const iid_bitmap *a, const iid_bitmap *b, const uint16_t part[4]) {
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

/* Pixels that two segments share in a part of both. */
TARGET static inline uint32_t NAME(count_both)(const strips *a, const strips *b, const uint16_t part[4]) {
    const uint32_t last = (uint32_t)(part[MAXC] - 1) >> 6, h = (uint32_t)part[MAXR] - part[MINR];
    uint64_t found = 0;
    for (uint32_t column = part[MINC] >> 6; column <= last; column++) {
        const uint64_t *x = strips_word(a, column, part[MINR]), *y = strips_word(b, column, part[MINR]);
        for (const uint64_t *end = x + h; x < end; x += STEP, y += STEP) {
            for (unsigned k = 0; k < STEP; k++) {
                found += (uint64_t)__builtin_popcountll(x[k] & y[k]);
            }
        }
    }
    return (uint32_t)found;
}

TARGET static inline uint32_t NAME(share_packed)(join_job *job, uint32_t other, const uint16_t part[4]) {
    const iid_bitmap packed = bitmap_of(job, other);
    job->work += 2 * strips_nwords(part);
    return NAME(count_packed)(&job->packed, &packed, part);
}

/* Pixels that the leader shares with another leaf, by their strips where these are worth making. */
TARGET static int NAME(share_strips)(join_job *job, uint64_t leaf, uint32_t other, const uint16_t part[4],
                                     uint32_t *count) {
    uint64_t *words = kept_words(job, other);
    strips one = job->leader, two;
    int status = MAPIX_OK, fits = 1;
    if (job->is_packed && !(one.words && words) && !are_worth(job, other, words, part) && in_map(job, other)) {
        *count = NAME(share_packed)(job, other, part);
        return MAPIX_OK;
    }
    if (!one.words) {
        status = NAME(lead)(job, leaf, part, &one, &fits);
    }
    if (words) {
        two = strips_at(words, job->join->places[other].box);
    } else if (!status && fits) {
        status = NAME(follow)(job, other, part, &two, &fits);
    }
    if (status) {
        return status;
    }
    if (!fits) {
        const located here = located_at(job, leaf), there = located_at(job, other);
        return shared_of(&job->slow, &here, &there, count);
    }
    job->work += strips_nwords(part);
    *count = NAME(count_both)(&one, &two, part);
    return MAPIX_OK;
}

/* Pixels that the leader shares with another leaf. */
TARGET static int NAME(share)(join_job *job, uint64_t leaf, uint32_t other, uint32_t *count) {
    const mapix_place *places = job->join->places;
    uint16_t part[4];
    *count = 0;
    if (!iid_meet(places[leaf].box, places[other].box, part)) {
        return MAPIX_OK;
    }
    if (job->few && in_map(job, other)) {
        *count = NAME(share_packed)(job, other, part);
        return MAPIX_OK;
    }
    return NAME(share_strips)(job, leaf, other, part, count);
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
        job->few = job->is_packed && met < FEW_MET && !kept_words(job, leader);
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
            const uint32_t a = join->order[leader], b = join->order[job->met[i]];
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
        int done = !place->at, status = MAPIX_OK;
        job->leader.words = NULL, job->spent = 0;
        job->is_packed = place->at != MAPIX_SEVERAL && in_map(job, pairs->leader);
        if (job->is_packed) {
            job->packed = bitmap_of(job, pairs->leader);
        }
        if (!pairs->next_leaf && place->at != MAPIX_SEVERAL) {
            pairs->next_leaf = pairs->leader + 1;
        }
        job->work += A_LEADER; /* of going through the tree */
        status = done ? status : NAME(join_leader)(job, &done);
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
