/* jsonl_names.c - hashes of the names of files in lines that are JSON objects.
 *
 * A line counts only if every JSON parser takes it, and no key occurs twice in an object.  What is rare (escapes in
 * names and keys, several names, deep or long lines) is left to the caller, and so is everything that is wrong: the
 * caller has the words for it. */
#include "guard.h"
#include "names.h"

enum {
    MOST_DEEP = 16,    /* brackets in brackets */
    MOST_KEYS = 64,    /* of all objects that are open */
    MOST_DIGITS = 200, /* of a number, with its sign, dot and exponent */
};

typedef enum { WRONG, OTHER, NOTHING, PLAIN, ESCAPED } kind; /* of a value: NOTHING is null, the last two are texts */

typedef struct {
    const uint8_t *begin;
    uint64_t nbytes;
} text;

typedef struct {
    const uint8_t *p, *end;
    text keys[MOST_KEYS];
    uint32_t nkeys;
    text name, path; /* the values of the last key that names a file, and of `filepath` */
    kind name_kind, path_kind;
    uint32_t nnames;
} reader;

static void skip_blanks(reader *r) {
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\r' || *r->p == '\n')) {
        r->p++;
    }
}

static int next_is(const reader *r, uint8_t c) {
    return r->p < r->end && *r->p == c;
}

/* Bytes of the character at p, of more than one byte; 0 if it is not UTF-8. */
static uint64_t wide_nbytes(const uint8_t *p, const uint8_t *end) {
    const uint8_t c = *p;
    const uint64_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    const uint8_t least = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, most = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (c < 0xc2 || c > 0xf4 || (uint64_t)(end - p) < n || p[1] < least || p[1] > most) {
        return 0;
    }
    for (uint64_t k = 2; k < n; k++) {
        if ((p[k] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

static int is_hex(uint8_t c) {
    return (uint8_t)(c - '0') < 10 || (uint8_t)((c | 0x20) - 'a') < 6;
}

/* Bytes of the escape at p; 0 without one. */
static uint64_t escape_nbytes(const uint8_t *p, const uint8_t *end) {
    if (end - p < 2) {
        return 0;
    }
    if (p[1] != 'u') {
        return memchr("\"\\/bfnrt", p[1], 8) ? 2 : 0;
    }
    return end - p >= 6 && is_hex(p[2]) && is_hex(p[3]) && is_hex(p[4]) && is_hex(p[5]) ? 6 : 0;
}

/* Which byte of a word in memory is the first that is not zero. */
static uint64_t first_byte(uint64_t word) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (uint64_t)__builtin_ctzll(word) / 8;
#else
    (void)word;
    return 0; /* then the caller goes byte by byte */
#endif
}

/* Skip eight bytes at a time that are ASCII, and neither quotes nor backslashes nor control characters. */
static const uint8_t *after_plain(const uint8_t *p, const uint8_t *end) {
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones * 0x80;
    while (end - p >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        const uint64_t quotes = word ^ (ones * '"'), slashes = word ^ (ones * '\\');
        const uint64_t special = ((quotes - ones) & ~quotes) | ((slashes - ones) & ~slashes) | (word - ones * 0x20) | word;
        if (special & highs) {
            return p + first_byte(special & highs);
        }
        p += 8;
    }
    return p;
}

/* Read the text whose first quote is at r->p. */
static kind read_text(reader *r, text *found) {
    const uint8_t *p = r->p + 1;
    kind k = PLAIN;
    found->begin = p;
    for (p = after_plain(p, r->end); p < r->end; p = after_plain(p, r->end)) {
        const uint8_t c = *p;
        uint64_t nbytes = c >= 0x20;
        if (c == '"') {
            found->nbytes = (uint64_t)(p - found->begin);
            r->p = p + 1;
            return k;
        }
        if (c == '\\') {
            k = ESCAPED;
            nbytes = escape_nbytes(p, r->end);
        } else if (c >= 0x80) {
            nbytes = wide_nbytes(p, r->end);
        }
        if (!nbytes) {
            return WRONG;
        }
        p += nbytes;
    }
    return WRONG;
}

static int skip_digits(reader *r) {
    const uint8_t *begin = r->p;
    while (r->p < r->end && (uint8_t)(*r->p - '0') < 10) {
        r->p++;
    }
    return r->p > begin;
}

static kind read_number(reader *r) {
    const uint8_t *begin = r->p;
    r->p += next_is(r, '-');
    const int zero = next_is(r, '0');
    const uint8_t *first = r->p;
    if (!skip_digits(r) || (zero && r->p > first + 1)) {
        return WRONG;
    }
    if (next_is(r, '.')) {
        r->p++;
        if (!skip_digits(r)) {
            return WRONG;
        }
    }
    if (next_is(r, 'e') || next_is(r, 'E')) {
        r->p++;
        r->p += next_is(r, '+') || next_is(r, '-');
        if (!skip_digits(r)) {
            return WRONG;
        }
    }
    return r->p - begin <= MOST_DIGITS ? OTHER : WRONG;
}

static kind read_word(reader *r, const char *word, uint64_t nbytes, kind k) {
    if ((uint64_t)(r->end - r->p) < nbytes || memcmp(r->p, word, nbytes) != 0) {
        return WRONG;
    }
    r->p += nbytes;
    return k;
}

static kind read_object(reader *r, uint32_t depth);
static kind read_list(reader *r, uint32_t depth);

static kind read_value(reader *r, uint32_t depth, text *found) {
    if (r->p >= r->end || depth > MOST_DEEP) {
        return WRONG;
    }
    switch (*r->p) {
    case '"': return read_text(r, found);
    case '{': return read_object(r, depth);
    case '[': return read_list(r, depth);
    case 't': return read_word(r, "true", 4, OTHER);
    case 'f': return read_word(r, "false", 5, OTHER);
    case 'n': return read_word(r, "null", 4, NOTHING);
    default: return read_number(r);
    }
}

static kind read_list(reader *r, uint32_t depth) {
    r->p++;
    skip_blanks(r);
    if (next_is(r, ']')) {
        r->p++;
        return OTHER;
    }
    for (;;) {
        text found;
        if (read_value(r, depth + 1, &found) == WRONG) {
            return WRONG;
        }
        skip_blanks(r);
        if (next_is(r, ']')) {
            r->p++;
            return OTHER;
        }
        if (!next_is(r, ',')) {
            return WRONG;
        }
        r->p++;
        skip_blanks(r);
    }
}

static int same_text(const text *a, const text *b) {
    return a->nbytes == b->nbytes && memcmp(a->begin, b->begin, a->nbytes) == 0;
}

static int is_text(const text *a, const char *b) {
    const text other = {(const uint8_t *)b, strlen(b)};
    return same_text(a, &other);
}

/* Whether a key names a file: "file_name", or one that ends with "_file_name". */
static int names_file(const text *key) {
    static const char suffix[] = "_file_name";
    const uint64_t n = sizeof suffix - 1;
    return is_text(key, suffix + 1) ||
           (key->nbytes >= n && memcmp(key->begin + key->nbytes - n, suffix, n) == 0);
}

/* Read a key that is new in its object, whose keys are those from `first` on; 0 if there is none. */
static int read_key(reader *r, uint32_t first, text *key) {
    if (!next_is(r, '"') || r->nkeys == MOST_KEYS || read_text(r, key) != PLAIN) {
        return 0;
    }
    for (uint32_t k = first; k < r->nkeys; k++) {
        if (same_text(&r->keys[k], key)) {
            return 0;
        }
    }
    r->keys[r->nkeys++] = *key;
    skip_blanks(r);
    if (!next_is(r, ':')) {
        return 0;
    }
    r->p++;
    skip_blanks(r);
    return 1;
}

static kind read_object(reader *r, uint32_t depth) {
    const uint32_t first = r->nkeys;
    r->p++;
    skip_blanks(r);
    if (next_is(r, '}')) {
        r->p++;
        return OTHER;
    }
    for (;;) {
        text key, value = {NULL, 0};
        if (!read_key(r, first, &key)) {
            return WRONG;
        }
        const kind found = read_value(r, depth + 1, &value);
        if (found == WRONG) {
            return WRONG;
        }
        if (depth == 0 && names_file(&key)) {
            r->name = value;
            r->name_kind = found;
            r->nnames++;
        } else if (depth == 0 && is_text(&key, "filepath")) {
            r->path = value;
            r->path_kind = found;
        }
        skip_blanks(r);
        if (next_is(r, '}')) {
            r->p++;
            r->nkeys = first;
            return OTHER;
        }
        if (!next_is(r, ',')) {
            return WRONG;
        }
        r->p++;
        skip_blanks(r);
    }
}

/* Whether a name has no other spelling: no "./", "//" or "/." at its end. */
static int is_canonical(const text *name) {
    for (uint64_t k = 1; k < name->nbytes; k++) {
        const uint8_t before = name->begin[k - 1], c = name->begin[k];
        if ((c == '/' && (before == '.' || before == '/')) || (c == '.' && before == '/' && k + 1 == name->nbytes)) {
            return 0;
        }
    }
    return 1;
}

static uint8_t hash_line(const uint8_t *begin, const uint8_t *end, uint64_t seed, uint64_t *hash) {
    reader r; /* its keys are not cleared: that took an eighth of the time */
    r.p = begin;
    r.end = end;
    r.nkeys = r.nnames = 0;
    r.name_kind = r.path_kind = NOTHING;
    *hash = 0;
    skip_blanks(&r);
    if (!next_is(&r, '{') || read_object(&r, 0) == WRONG) {
        return MAPIX_JSONL_ODD;
    }
    skip_blanks(&r);
    const kind found = r.nnames ? r.name_kind : r.path_kind;
    if (r.p < end || r.nnames > 1) {
        return MAPIX_JSONL_ODD;
    }
    if (found == NOTHING) {
        return MAPIX_JSONL_UNNAMED;
    }
    const text *name = r.nnames ? &r.name : &r.path;
    if (found != PLAIN || !is_canonical(name)) {
        return MAPIX_JSONL_ODD;
    }
    *hash = hash_bytes(name->begin, name->nbytes, seed);
    return MAPIX_JSONL_NAMED;
}

typedef struct {
    const mapix_map *map;
    const uint64_t *begins;
    uint64_t n, most_nbytes, seed;
    uint64_t *hashes;
    uint8_t *found;
} names_job;

static int hash_lines(void *arg) {
    const names_job *job = arg;
    const uint8_t *base = job->map->base;
    for (uint64_t k = 0; k < job->n; k++) {
        const uint64_t begin = job->begins[k], end = job->begins[k + 1];
        job->hashes[k] = 0;
        job->found[k] = MAPIX_JSONL_ODD;
        if (end - begin <= job->most_nbytes) {
            job->found[k] = hash_line(base + begin, base + end, job->seed, &job->hashes[k]);
        }
    }
    return MAPIX_OK;
}

int mapix_jsonl_names(const mapix_map *map, const uint64_t *begins, uint64_t n, uint64_t most_nbytes, uint64_t seed,
                      uint64_t *hashes, uint8_t *found) {
    for (uint64_t k = 0; k < n; k++) {
        if (begins[k] > begins[k + 1]) {
            return MAPIX_E_ARGUMENT;
        }
    }
    if (begins[n] > map->nbytes) {
        return MAPIX_E_ARGUMENT;
    }
    names_job job = {map, begins, n, most_nbytes, seed, hashes, found};
    return mapix_guarded_checked(map, hash_lines, &job);
}
