/* fuzz_items.c - items of a JSON array, ends of values and numbers, beside a reader that goes down brackets by
 * recursion, takes one byte at a time, and leaves the rounding to strtod.
 *
 * An input begins with: how it is read (1: objects and keys; 2: the file is gone; 4: long items allowed), the
 * most bytes of an item, a step, a capacity, a seed of places; the rest is the text. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <ctype.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_ITEMS = 1 << 13, NKEYS = 4, MOST_DEEP = 64, IN_ITEM = 5, NPLACES = 40 };

static const char *const keys[NKEYS] = {"id", "bbox", "", "id"};

typedef struct {
    uint64_t begin, size;
    uint32_t places[NKEYS];
} slow_item;

typedef struct {
    const uint8_t *text;
    uint64_t nbytes;
} slow_text;

static int at_any(const slow_text *t, uint64_t at, const char *some) {
    return at < t->nbytes && is_one_of(t->text[at], some);
}

static uint64_t skip_blanks(const slow_text *t, uint64_t at) {
    while (at_any(t, at, " \t\r\n")) {
        at++;
    }
    return at;
}

/* A scan gives 1 and where it ended, or 0 and where something was wrong. */
typedef struct {
    int good;
    uint64_t at;
} outcome;

static outcome slow_string(const slow_text *t, uint64_t at) {
    int literal = 0;
    for (at++; at < t->nbytes; at++) {
        if (literal) {
            literal = 0;
        } else if (t->text[at] == '\\') {
            literal = 1;
        } else if (t->text[at] == '"') {
            return (outcome){1, at + 1};
        }
    }
    return (outcome){0, t->nbytes};
}

static outcome slow_brackets(const slow_text *t, uint64_t at, unsigned depth) {
    const char closing = t->text[at] == '{' ? '}' : ']';
    if (depth == MOST_DEEP) {
        return (outcome){0, at};
    }
    at++;
    while (at < t->nbytes) {
        const char c = (char)t->text[at];
        outcome inner = {1, at + 1};
        if (c == closing) {
            return inner;
        }
        if (c == ']' || c == '}') {
            return (outcome){0, at};
        }
        if (c == '"') {
            inner = slow_string(t, at);
        } else if (c == '[' || c == '{') {
            inner = slow_brackets(t, at, depth + 1);
        }
        if (!inner.good) {
            return inner;
        }
        at = inner.at;
    }
    return (outcome){0, t->nbytes};
}

static outcome slow_value(const slow_text *t, uint64_t at) {
    if (at_any(t, at, "\"")) {
        return slow_string(t, at);
    }
    if (at_any(t, at, "[{")) {
        return slow_brackets(t, at, 0);
    }
    const uint64_t begin = at;
    while (at < t->nbytes && !at_any(t, at, " \t\r\n,]}[{\":")) {
        at++;
    }
    return (outcome){at > begin, at};
}

/* An object whose keys are read: each member is a string, `:` and a value. */
static outcome slow_object(const slow_text *t, uint64_t begin, uint32_t *places) {
    int odd = 0;
    memset(places, 0, NKEYS * sizeof *places);
    if (!at_any(t, begin, "{")) {
        return (outcome){0, begin};
    }
    uint64_t at = skip_blanks(t, begin + 1);
    if (at_any(t, at, "}")) {
        return (outcome){1, at + 1};
    }
    for (;;) {
        if (!at_any(t, at, "\"")) {
            return (outcome){0, at};
        }
        const outcome key = slow_string(t, at);
        if (!key.good) {
            return key;
        }
        const uint64_t colon = skip_blanks(t, key.at);
        if (!at_any(t, colon, ":")) {
            return (outcome){0, colon};
        }
        const uint64_t value_at = skip_blanks(t, colon + 1);
        const outcome value = slow_value(t, value_at);
        if (!value.good) {
            return value;
        }
        const uint64_t length = key.at - at - 2;
        for (uint64_t k = 0; k < length; k++) {
            odd |= t->text[at + 1 + k] == '\\';
        }
        for (int k = 0; k < NKEYS; k++) {
            if (strlen(keys[k]) == length && !memcmp(keys[k], t->text + at + 1, length)) {
                places[k] = (uint32_t)(value_at - begin);
            }
        }
        at = skip_blanks(t, value.at);
        if (at_any(t, at, "}")) {
            break;
        }
        if (!at_any(t, at, ",")) {
            return (outcome){0, at};
        }
        at = skip_blanks(t, at + 1);
    }
    for (int k = 0; odd && k < NKEYS; k++) {
        places[k] = UINT32_MAX;
    }
    return (outcome){1, at + 1};
}

/* What a scan that may take `most` bytes gives: a status, and where it ended. */
static int limited(const slow_text *t, uint64_t begin, uint64_t most, outcome *all) {
    const int cut = t->nbytes - begin > most;
    if (cut && (all->good ? all->at > begin + most : all->at >= begin + most)) {
        all->at = begin + most;
        return MAPIX_E_JSON_LONG;
    }
    return all->good ? MAPIX_OK : MAPIX_E_JSON_TOKEN;
}

typedef struct {
    slow_item items[MOST_ITEMS];
    uint64_t nitems, at; /* after the last bracket, if all is well */
    int status;
    mapix_where where;
} slow_list;

/* The complete array. */
static void slow_scan(const slow_text *t, slow_list *list, int objects, uint64_t most) {
    uint64_t at = 0, state = 0;
    list->nitems = 0;
    for (;;) {
        at = skip_blanks(t, at);
        const char *wanted = state == 0 ? "[" : state == 4 ? ",]" : state == 2 ? "]" : "";
        const int met = at_any(t, at, wanted);
        list->where = (mapix_where){list->nitems, at, state, at < t->nbytes ? t->text[at] : MAPIX_JSON_END};
        list->status = MAPIX_E_JSON_TOKEN;
        if (met) {
            at++;
            if (t->text[at - 1] == ']') {
                list->status = MAPIX_OK;
                list->at = at;
                return;
            }
            state = state == 0 ? 2 : 3;
        } else if (at == t->nbytes || (state != 2 && state != 3)) {
            return;
        } else {
            CHECK(list->nitems < MOST_ITEMS);
            slow_item *item = &list->items[list->nitems];
            outcome all = objects ? slow_object(t, at, item->places) : slow_value(t, at);
            list->status = limited(t, at, most, &all);
            if (list->status) {
                list->where = (mapix_where){list->nitems, all.at, IN_ITEM,
                                            all.at < t->nbytes ? t->text[all.at] : MAPIX_JSON_END};
                return;
            }
            item->begin = at;
            item->size = all.at - at;
            list->nitems++;
            at = all.at;
            state = 4;
        }
    }
}

/* The core, in calls of `step` bytes and `capacity` items, beside what the slow one found. */
static void check_items(const mapix_map *map, const slow_list *slow, uint32_t nkeys, uint32_t most,
                        uint64_t step, uint64_t capacity) {
    uint32_t ends[NKEYS], nbytes = 0;
    uint8_t names[16];
    for (uint32_t k = 0; k < nkeys; k++) {
        memcpy(names + nbytes, keys[k], strlen(keys[k]));
        ends[k] = nbytes += (uint32_t)strlen(keys[k]);
    }
    uint64_t *begins = block(capacity * sizeof *begins);
    uint32_t *sizes = block(capacity * sizeof *sizes), *places = block(capacity * nkeys * sizeof *places);
    mapix_json_list list = {0};
    mapix_where where = {9, 9, 9, 9};
    uint64_t done = 0, n = 9;
    int status = MAPIX_OK;
    while (!status && list.state != MAPIX_JSON_DONE) {
        const uint64_t before = list.at, stop_at = before + step;
        status = mapix_json_items(map, &list, names, ends, nkeys, most, stop_at, begins, sizes, places,
                                  capacity, &n, &where);
        CHECK(n <= capacity && done + n <= slow->nitems && list.nitems == done + n);
        CHECK(status || list.state == MAPIX_JSON_DONE || n == capacity || list.at >= stop_at);
        for (uint64_t k = 0; k < n; k++) {
            const slow_item *item = &slow->items[done + k];
            CHECK(begins[k] == item->begin && sizes[k] == item->size);
            CHECK(!nkeys || !memcmp(places + k * nkeys, item->places, nkeys * sizeof *places));
        }
        done += n;
    }
    CHECK(status == slow->status && done == slow->nitems);
    CHECK(status ? !memcmp(&where, &slow->where, sizeof where) : list.at == slow->at);
    free(begins);
    free(sizes);
    free(places);
}

/* --- numbers ------------------------------------------------------------------------------------- */

/* Whether a number that mapix_json_values reads begins here; *end is the byte after it. */
static int slow_number(const slow_text *t, uint64_t at, int whole, double *d, int64_t *i, uint64_t *end) {
    char spelt[64];
    unsigned n = 0, ncounting = 0, nafter = 0, ndigits = 0;
    int counting = 0;
    const int negative = at_any(t, at, "-");
    const uint64_t first = at += (uint64_t)negative;
    spelt[n++] = negative ? '-' : '0';
    for (int dot = 0; at < t->nbytes; at++) {
        const int c = t->text[at];
        if (c == '.' && !dot && !whole && ndigits) {
            dot = 1;
        } else if (!isdigit(c)) {
            break;
        } else {
            ndigits++;
            counting |= c != '0';
            ncounting += counting != 0;
            nafter += dot != 0;
        }
        if (n > 60) {
            return 0; /* of these at most 19 count, and 19 are after the dot */
        }
        spelt[n++] = (char)c;
    }
    *end = at;
    const int bare_dot = n > 1 && spelt[n - 1] == '.';
    const int zeros = ndigits > 1 && t->text[first] == '0' && isdigit(t->text[first + 1]);
    if (!ndigits || bare_dot || zeros || ncounting > 19 || nafter > 19 ||
        (at < t->nbytes && !at_any(t, at, " \t\r\n,]}"))) {
        return 0;
    }
    spelt[n] = 0;
    if (!whole) {
        *d = strtod(spelt, NULL);
        return 1;
    }
    __int128 value = 0;
    for (unsigned k = 1; k < n; k++) {
        value = 10 * value + (spelt[k] - '0');
    }
    *i = (int64_t)(negative ? -value : value);
    return value <= INT64_MAX;
}

static int slow_numbers(const slow_text *t, uint64_t at, unsigned width, double *d) {
    for (unsigned k = 0; k < width; k++) {
        if (!at_any(t, at, k ? "," : "[")) {
            return 0;
        }
        int64_t ignored;
        at = skip_blanks(t, at + 1);
        if (!slow_number(t, at, 0, d + k, &ignored, &at)) {
            return 0;
        }
        at = skip_blanks(t, at);
    }
    return at_any(t, at, "]");
}

static uint8_t slow_found(const slow_text *t, uint64_t at, int good) {
    return at == UINT64_MAX ? MAPIX_JSON_MISSING : at < t->nbytes && good ? MAPIX_JSON_GOOD : MAPIX_JSON_OTHER;
}

static void check_values(const mapix_map *map, const slow_text *t, const uint64_t *at) {
    enum { WIDEST = 4 };
    double *doubles = block(NPLACES * WIDEST * sizeof *doubles), want[WIDEST];
    int64_t *integers = block(NPLACES * sizeof *integers), whole = 0;
    uint8_t *found = block(NPLACES);
    uint64_t end;
    CHECK(mapix_json_values(map, at, NPLACES, 0, NULL, integers, found) == MAPIX_OK);
    for (int k = 0; k < NPLACES; k++) {
        const int good = at[k] < t->nbytes && slow_number(t, at[k], 1, want, &whole, &end);
        CHECK(found[k] == slow_found(t, at[k], good));
        CHECK(!good || integers[k] == whole);
    }
    for (unsigned width = 0; width <= WIDEST; width++) {
        const unsigned each = width ? width : 1;
        CHECK(mapix_json_values(map, at, NPLACES, width, doubles, NULL, found) == MAPIX_OK);
        for (int k = 0; k < NPLACES; k++) {
            const int good = at[k] < t->nbytes && (width ? slow_numbers(t, at[k], width, want)
                                                         : slow_number(t, at[k], 0, want, &whole, &end));
            CHECK(found[k] == slow_found(t, at[k], good));
            CHECK(!good || !memcmp(doubles + (unsigned)k * each, want, each * sizeof *want));
        }
    }
    CHECK(mapix_json_values(map, at, 1, 0, NULL, NULL, found) == MAPIX_E_ARGUMENT);
    CHECK(mapix_json_values(map, at, 1, 0, doubles, integers, found) == MAPIX_E_ARGUMENT);
    CHECK(mapix_json_values(map, at, 1, 2, NULL, integers, found) == MAPIX_E_ARGUMENT);
    free(doubles);
    free(integers);
    free(found);
}

static void check_ends(const mapix_map *map, const slow_text *t, const uint64_t *at, uint64_t most) {
    for (int k = 0; k < NPLACES; k++) {
        uint64_t end = 9;
        const int status = mapix_json_value_end(map, at[k], most, &end);
        if (at[k] > t->nbytes) {
            CHECK(status == MAPIX_E_ARGUMENT);
            continue;
        }
        outcome all = slow_value(t, at[k]);
        CHECK(status == limited(t, at[k], most, &all));
        CHECK(end == all.at);
    }
}

/* The caller's mistakes, and a file that is another one by now. */
static void check_mistakes(const mapix_map *map, int lost) {
    const mapix_json_list wrong[2] = {{.at = map->nbytes + 1}, {.state = IN_ITEM}};
    uint64_t begin = 0, n = 9, end;
    uint32_t size, places[1];
    mapix_where where;
    for (int k = 0; k < 4; k++) {
        mapix_json_list list = k < 2 ? wrong[k] : (mapix_json_list){0};
        const uint32_t most = k == 2 ? UINT32_MAX : k == 3 ? 0 : 99;
        CHECK(mapix_json_items(map, &list, NULL, NULL, 0, most, UINT64_MAX, &begin, &size, places, 1, &n,
                               &where) == MAPIX_E_ARGUMENT);
        CHECK(n == 0);
    }
    if (lost) {
        mapix_map gone = *map;
        mapix_json_list list = {0};
        double number;
        uint8_t found;
        gone.fd = 1 << 30;
        CHECK(mapix_json_items(&gone, &list, NULL, NULL, 0, 99, UINT64_MAX, &begin, &size, places, 1, &n,
                               &where) == MAPIX_E_CHANGED);
        CHECK(n == 0);
        CHECK(mapix_json_value_end(&gone, 0, 99, &end) == MAPIX_E_CHANGED);
        CHECK(mapix_json_values(&gone, &end, 1, 0, &number, NULL, &found) == MAPIX_E_CHANGED);
    }
}

/* A list whose second page is lost: no item of the first one counts. */
static void check_lost_page(void) {
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)(2 * page)) == 0 && pwrite(fd, "[{},{", 5, 0) == 5);
    uint8_t *base = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(base != MAP_FAILED);
    memset(base + 5, ' ', page - 5);
    CHECK(ftruncate(fd, (off_t)page) == 0 && close(fd) == 0);
    const mapix_map map = {.base = base, .nbytes = 2 * page, .fd = -1};
    mapix_json_list list = {0};
    uint64_t begins[2], n = 9;
    uint32_t sizes[2], places[2];
    mapix_where where;
    CHECK(mapix_json_items(&map, &list, NULL, NULL, 0, 1 << 20, UINT64_MAX, begins, sizes, places, 2, &n,
                           &where) == MAPIX_E_FAULT);
    CHECK(n == 0 && munmap(base, 2 * page) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes) {
    static slow_list slow;
    input in = {data, nbytes < 2 * MOST_ITEMS ? nbytes : 2 * MOST_ITEMS};
    const unsigned how = take(&in);
    const uint32_t most = 1 + (uint32_t)take(&in) * (how & 4 ? 64 : 1);
    const uint64_t step = 1 + (uint64_t)take(&in) * (how & 8 ? 64 : 1), capacity = 1 + take(&in) % 40;
    const unsigned turn = take(&in);
    uint8_t *text = block(in.left);
    memcpy(text, in.next, in.left);
    const mapix_map map = {.base = text, .nbytes = in.left, .fd = -1};
    const slow_text t = {text, in.left};
    slow_scan(&t, &slow, how & 1, most);
    check_items(&map, &slow, how & 1 ? NKEYS - (how >> 4) % 2 : 0, most, step, capacity);
    uint64_t at[NPLACES];
    for (unsigned k = 0; k < NPLACES; k++) { /* of values, and anywhere */
        const slow_item *item = &slow.items[k / 2 % (slow.nitems ? slow.nitems : 1)];
        at[k] = k % 2 || !slow.nitems ? (uint64_t)k * (turn + 1) % (in.left + 2)
                                      : item->begin + (how & 1 ? item->places[k / 2 % 2] : 0);
    }
    at[turn % NPLACES] = turn & 1 ? UINT64_MAX : UINT64_MAX - 1;
    check_values(&map, &t, at);
    check_ends(&map, &t, at, most - (turn & 1));
    check_mistakes(&map, how & 2);
    ONCE(check_lost_page());
    free(text);
    return 0;
}
