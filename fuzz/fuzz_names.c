/* fuzz_names.c - names of files in lines of JSON: the core beside a reader that goes byte by byte.
 *
 * A byte below 128 stands for itself, all others for words of such lines. */
#include "fuzz.h"

enum { MOST_NBYTES = 1024, MOST_KEYS = 64, MOST_DEEP = 16, MOST_DIGITS = 200, MOST_LINES = 64 };

typedef struct {
    const uint8_t *s;
    uint64_t n, i;
    int wrong;                          /* what no parser takes, or keys that occur twice */
    uint64_t deepest, nkeys, ndigits;   /* the most of all */
    uint64_t begin, end;                /* of the last text */
    int has_escape, has_escaped_key;
    int nnames, state;                  /* of the names; MAPIX_JSONL_ODD if the last value has escapes, or another type */
    uint64_t name, name_end;
    int path_state;
    uint64_t path, path_end;
} slow;

static uint8_t at(const slow *r) {
    return r->i < r->n ? r->s[r->i] : 0;
}

static void blanks(slow *r) {
    while (r->i < r->n && is_one_of(at(r), " \t\r\n")) {
        r->i++;
    }
}

static void expect(slow *r, const char *word) {
    for (; *word; word++, r->i++) {
        if (r->i >= r->n || at(r) != (uint8_t)*word) {
            r->wrong = 1;
            return;
        }
    }
}

/* One character of a text, by its code point. */
static void character(slow *r) {
    uint8_t c = at(r);
    if (c == '\\') {
        r->has_escape = 1;
        r->i++;
        c = at(r);
        r->i++;
        if (c == 'u') {
            for (int k = 0; k < 4; k++, r->i++) {
                r->wrong |= !at(r) || !is_one_of(at(r), "0123456789abcdefABCDEF");
            }
        } else {
            r->wrong |= !c || !is_one_of(c, "\"\\/bfnrt");
        }
        return;
    }
    r->i++;
    if (c < 0x80) {
        r->wrong |= c < 0x20;
        return;
    }
    const unsigned more = c < 0xc0 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf8 ? 3 : 9;
    uint32_t code = more == 1 ? c & 31 : more == 2 ? c & 15 : c & 7;
    for (unsigned k = 0; k < more && k < 4; k++, r->i++) {
        r->wrong |= r->i >= r->n || at(r) >> 6 != 2;
        code = code << 6 | (at(r) & 63);
    }
    static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
    r->wrong |= more > 3 || code < least[more & 3] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000);
}

static void read_text(slow *r) {
    expect(r, "\"");
    r->begin = r->i;
    r->has_escape = 0;
    while (!r->wrong && r->i < r->n && at(r) != '"') {
        character(r);
    }
    r->end = r->i;
    expect(r, "\"");
}

static uint64_t digits(slow *r) {
    const uint64_t begin = r->i;
    while (r->i < r->n && at(r) && is_one_of(at(r), "0123456789")) {
        r->i++;
    }
    r->wrong |= r->i == begin;
    return r->i - begin;
}

static void read_number(slow *r) {
    const uint64_t begin = r->i;
    if (at(r) == '-') {
        r->i++;
    }
    const uint8_t first = at(r);
    r->wrong |= digits(r) > 1 && first == '0';
    if (at(r) == '.') {
        r->i++;
        digits(r);
    }
    if (at(r) == 'e' || at(r) == 'E') {
        r->i++;
        if (at(r) == '+' || at(r) == '-') {
            r->i++;
        }
        digits(r);
    }
    r->ndigits = r->i - begin > r->ndigits ? r->i - begin : r->ndigits;
}

static int ends_with(const slow *r, uint64_t begin, uint64_t end, const char *word) {
    const uint64_t n = strlen(word);
    return end - begin >= n && memcmp(r->s + end - n, word, n) == 0;
}

static void read_value(slow *r, uint64_t depth);

/* What a value is as the name of a file. */
static int as_name(const slow *r, uint8_t first) {
    return first == 'n' ? MAPIX_JSONL_UNNAMED : first == '"' && !r->has_escape ? MAPIX_JSONL_NAMED : MAPIX_JSONL_ODD;
}

static void read_object(slow *r, uint64_t depth) {
    uint64_t begins[MOST_NBYTES], ends[MOST_NBYTES], n = 0;
    expect(r, "{");
    blanks(r);
    while (!r->wrong && at(r) != '}') {
        if (n) {
            expect(r, ",");
            blanks(r);
        }
        read_text(r);
        if (r->wrong) {
            return;
        }
        r->has_escaped_key |= r->has_escape;
        const uint64_t begin = begins[n] = r->begin, end = ends[n] = r->end;
        for (uint64_t k = 0; k < n; k++) {
            const uint64_t length = ends[k] - begins[k];
            r->wrong |= length == end - begin && memcmp(r->s + begins[k], r->s + begin, length) == 0;
        }
        n++;
        r->nkeys++;
        blanks(r);
        expect(r, ":");
        blanks(r);
        const uint8_t first = at(r);
        read_value(r, depth + 1);
        if (depth == 0 && ends_with(r, begin, end, "file_name") &&
            (end - begin == 9 || ends_with(r, begin, end, "_file_name"))) {
            r->nnames++;
            r->state = as_name(r, first);
            r->name = r->begin;
            r->name_end = r->end;
        }
        if (depth == 0 && end - begin == 8 && ends_with(r, begin, end, "filepath")) {
            r->path_state = as_name(r, first);
            r->path = r->begin;
            r->path_end = r->end;
        }
        blanks(r);
    }
    expect(r, "}");
}

static void read_list(slow *r, uint64_t depth) {
    expect(r, "[");
    blanks(r);
    for (uint64_t n = 0; !r->wrong && at(r) != ']'; n++) {
        if (n) {
            expect(r, ",");
            blanks(r);
        }
        read_value(r, depth + 1);
        blanks(r);
    }
    expect(r, "]");
}

static void read_value(slow *r, uint64_t depth) {
    r->deepest = depth > r->deepest ? depth : r->deepest;
    if (r->wrong || r->i >= r->n) {
        r->wrong = 1;
        return;
    }
    switch (at(r)) {
    case '"': read_text(r); break;
    case '{': read_object(r, depth); break;
    case '[': read_list(r, depth); break;
    case 't': expect(r, "true"); break;
    case 'f': expect(r, "false"); break;
    case 'n': expect(r, "null"); break;
    default: read_number(r);
    }
}

/* Whether the parts of a name between slashes say that it could be written in a shorter way. */
static int has_shorter(const slow *r, uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i + 1 < end; i++) {
        if ((r->s[i] == '.' && r->s[i + 1] == '/') || (r->s[i] == '/' && r->s[i + 1] == '/')) {
            return 1;
        }
    }
    return end - begin > 1 && r->s[end - 2] == '/' && r->s[end - 1] == '.';
}

static void check_line(const uint8_t *s, uint64_t n, uint64_t most, uint64_t seed, uint64_t hash, uint8_t found) {
    slow r = {.s = s, .n = n};
    uint64_t want = 0;
    blanks(&r);
    if (at(&r) != '{') {
        CHECK(found == MAPIX_JSONL_ODD && hash == 0);
        return;
    }
    read_object(&r, 0);
    blanks(&r);
    int state = r.nnames ? r.state : r.path_state;
    const uint64_t begin = r.nnames ? r.name : r.path, end = r.nnames ? r.name_end : r.path_end;
    if (r.wrong || r.i < r.n || r.has_escaped_key || r.nnames > 1 || n > most) {
        state = MAPIX_JSONL_ODD;
    }
    if (state == MAPIX_JSONL_NAMED && has_shorter(&r, begin, end)) {
        state = MAPIX_JSONL_ODD;
    }
    if (state == MAPIX_JSONL_NAMED) {
        const uint64_t ends[2] = {0, end - begin};
        CHECK(mapix_name_hashes(s + begin, ends, 1, MAPIX_NAME_IID, seed, &want) == MAPIX_OK);
    }
    const int simple = r.deepest <= MOST_DEEP && r.nkeys <= MOST_KEYS && r.ndigits <= MOST_DIGITS;
    if (!simple && found == MAPIX_JSONL_ODD) {
        CHECK(hash == 0);
        return;
    }
    CHECK(found == state && hash == want);
}

static void check_wrong(const mapix_map *map) {
    const uint64_t beyond[2] = {0, map->nbytes + 1}, descending[2] = {map->nbytes + 1, map->nbytes};
    uint64_t hash;
    uint8_t found;
    CHECK(mapix_jsonl_names(map, beyond, 1, 9, 0, &hash, &found) == MAPIX_E_ARGUMENT);
    CHECK(mapix_jsonl_names(map, descending, 1, 9, 0, &hash, &found) == MAPIX_E_ARGUMENT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    static const char *const words[] = {
        "{\"file_name\": \"a.png\"}", "\"file_name\":", "\"a_file_name\": \"", "\"filepath\":\"", "{\"", "\"}", "\", \"",
        "\": \"", ", \"", "\": ", "null", "true", "false", "NaN", "-0.5e+31", "01", "\\u00e9", "\\n", "\\ud83d", "\xc3\xa9",
        "\xe2\x82\xac", "\xed\xa0\x80", "\xed\x9f\xbf", "\xf0\x9f\x98\x80", "\xf4\x90\x80\x80", "\xe0\x9f\xbf", "./", "//",
        "/.", " \t\r", "\n", "[", "]", "{}", "\"12345678\"", "\"x\":[1, {\"y\": 2}]", "123456789012345678901234567890",
        "\xc1\xbf", "\xf0\x8f\xbf\xbf", "_file_name", "\"e\":\"", "0.", "E-", "\x7f"};
    enum { NWORDS = sizeof words / sizeof *words };
    static uint8_t room[MOST_NBYTES];
    input in = {data, nbytes};
    const uint64_t most = 1 + 4 * (uint64_t)take(&in), seed = take(&in);
    draft d = {.bytes = room, .room = sizeof room};
    while (in.left && d.nbytes < d.room) {
        const uint8_t c = take(&in);
        const char *word = words[(c & 127) % NWORDS];
        for (unsigned k = c < 128 ? 0 : c & 64 && (c & 127) >= 2 * NWORDS ? 20 : 1; k; k--) {
            for (const char *p = word; *p; p++) {
                put(&d, (uint8_t)*p);
            }
        }
        if (c < 128) {
            put(&d, c);
        }
    }
    uint8_t *text = block(d.nbytes);
    memcpy(text, d.bytes, d.nbytes);
    const mapix_map map = {.base = text, .nbytes = d.nbytes, .fd = -1};
    uint64_t begins[MOST_LINES + 1], hashes[MOST_LINES], n;
    uint8_t found[MOST_LINES];
    mapix_lines lines = {0};
    CHECK(mapix_jsonl_lines(&map, &lines, UINT64_MAX, begins, NULL, MOST_LINES, &n) == MAPIX_OK);
    begins[n] = lines.begin;
    CHECK(mapix_jsonl_names(&map, begins, n, most, seed, hashes, found) == MAPIX_OK);
    for (uint64_t k = 0; k < n; k++) {
        check_line(text + begins[k], begins[k + 1] - begins[k], most, seed, hashes[k], found[k]);
    }
    check_wrong(&map);
    free(text);
    return 0;
}
