/* mapix.h - the functions of the C core, and the only source of cffi's declarations.
 *
 * The core works on memory.  It opens no files, prints nothing, allocates no memory for what a file
 * states, and never calls Python; cffi releases the GIL before it calls a function declared here.
 *
 * `nbytes` is a number of bytes, `at` a byte offset from the start of a file, `n...` a number of
 * things, `record` the number of a record, from 0.  A box is minr, minc, maxr, maxc, half open.
 * Arithmetic on fields of a file is done in uint64_t, and bounds are checked by subtracting from what
 * is left.
 *
 * Every function that reads a map runs under the SIGBUS guard (guard.c).  If another process truncates
 * the file, or a page cannot be read, the function returns MAPIX_E_FAULT.  After the call the file's
 * size and times are compared with those in mapix_map; if they differ, the function returns
 * MAPIX_E_CHANGED, and its output must be discarded.
 *
 * Threads: every function may run in any number of threads at once.  The caller keeps all memory that
 * it passes alive until the call returns; the core keeps no pointer afterwards.
 *
 * build_core.py gives the text between the two markers to cffi: plain declarations only, no
 * preprocessor lines.
 */
#ifndef MAPIX_H
#define MAPIX_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin */

/* Status that a function returns.  mapix/_native/core.py turns it into an exception. */
enum {
    MAPIX_OK = 0,
    MAPIX_E_TRUNCATED = 1, /* a record ends after the end of the file: expected, got in bytes */
    MAPIX_E_ZERO = 2,      /* a record's image has no pixels: got is h<<32 | w<<16 | c */
    MAPIX_E_SPAN = 3,      /* a record of a table lies outside the file: expected, got in bytes */
    MAPIX_E_STALE = 4,     /* a record's header differs from the table */
    MAPIX_E_FAULT = 5,     /* the memory could not be read (SIGBUS) */
    MAPIX_E_CHANGED = 6,   /* the file's size or times changed since it was mapped */
    MAPIX_E_ROW = 7,       /* a row is out of range: got is the row, expected the number of records */
    MAPIX_E_SHAPE = 8,     /* a record does not fit the output: got is h<<32 | w<<16 | c */
    MAPIX_E_ARGUMENT = 9,  /* the caller's mistake: a null pointer, an unknown code, a short buffer */
    MAPIX_E_SYSTEM = 10,   /* a system call failed: see errno */
    /* of IID archives; record is the key */
    MAPIX_E_IID_KEY = 11,    /* a lookup row or a segment states another key: expected, got */
    MAPIX_E_IID_SPAN = 12,   /* a name or segment is not in its section: its end, the section's bytes */
    MAPIX_E_IID_BOX = 13,    /* a box has its ends exchanged, or a region's is outside its segment's */
    MAPIX_E_IID_REGION = 14, /* a region's length differs from its box, or exceeds its segment */
    MAPIX_E_IID_NAME = 15,   /* the lengths of a name do not add up: expected, got in bytes */
    /* of JSON text; record is the row */
    MAPIX_E_JSON_TOKEN = 16,   /* an unexpected byte at `at`: expected is the state, got the byte */
    MAPIX_E_JSON_COLUMNS = 17, /* a row has another number of columns: expected, got */
    MAPIX_E_JSON_ROWS = 18,    /* another number of rows: expected, got */
    MAPIX_E_JSON_LONG = 19,    /* an item does not end within the bytes that it may have */
    /* of tables */
    MAPIX_E_CHAIN = 20 /* a record does not begin where the one before ends, or the last one does not end
                          at `end`: expected is the byte where it should, got the one that the table has */
};

/* Where and why a call stopped.  Written only if the status is not MAPIX_OK. */
typedef struct {
    uint64_t record;
    uint64_t at;
    uint64_t expected;
    uint64_t got;
} mapix_where;

/* One mapped file.  `fd` is a descriptor of it; or MAPIX_BY_PATH: the file at `path` is checked
 * instead; or MAPIX_UNCHECKED for memory without a file: the guard works, and changes are not checked.
 * The other fields are those of fstat when the map was made.  The caller may close `fd` at any time:
 * a file that gets the same number later differs in dev or ino.  Of a map with pages that are not there
 * yet, `fault` is where the guard writes the address of a fault in it; else it is null.  The caller makes
 * the page readable, writes 0 there, and repeats the call. */
enum { MAPIX_UNCHECKED = -1, MAPIX_BY_PATH = -2 };
typedef struct {
    const uint8_t *base;
    uint64_t nbytes;
    int64_t fd;
    const char *path;
    uint64_t dev, ino, size;
    int64_t mtime_ns;
    int64_t ctime_ns;
    uint64_t *fault;
} mapix_map;

/* Compare the file of a map with the map's fields: MAPIX_OK; MAPIX_E_CHANGED, also if the file no
 * longer exists; MAPIX_E_SYSTEM.  With `fault`, MAPIX_E_CHANGED while it is not 0, and the file is not
 * checked. */
int mapix_map_check(const mapix_map *map);

/* What fstat states of a file, and its first bytes. */
enum { MAPIX_UNREAD = 0xFFFF, MAPIX_ABSENT = 0xFFFE, MAPIX_FRONT_NBYTES = 2048 };
typedef struct {
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
    uint64_t mode, uid, gid, nlink;
    uint64_t nfront; /* bytes in `front`; MAPIX_UNREAD where they could not be read, or the file changed meanwhile;
                        MAPIX_ABSENT where they are not in memory */
    uint8_t front[2048];
} mapix_about;

/* Open a file for reading: its descriptor, and what fstat states, go into `map`; what fstat states, and the first
 * bytes of a regular file, into `about`: nfront, at most MAPIX_FRONT_NBYTES, or all of a shorter one.  Other fields
 * of `map` are left as they are.  Without `wait`, the kernel is asked to read bytes that are not in memory, in the
 * background: mapix_describe, with `wait`, then reads them.  Returns MAPIX_OK; or MAPIX_E_SYSTEM with errno set, and nothing is open. */
int mapix_open(const char *path, mapix_map *map, mapix_about *about, uint32_t nfront, int wait);

/* The same for a descriptor that is in `map`, and stays open in any case. */
int mapix_describe(mapix_map *map, mapix_about *about, uint32_t nfront, int wait);

/* Have the kernel read the beginning of a file, in the background.  A file that is not there is no error. */
void mapix_ask(const char *path);

/* Close the descriptor in `map`, if there is one.  errno may change. */
void mapix_shut(mapix_map *map);

/* Whether `path` leads to a file of nbytes, and nothing is at `journal`. */
int mapix_settled(const char *path, const char *journal, uint64_t nbytes);

/* Replace memory at `at`, complete pages that the caller has mapped, by nbytes of a file from byte `from`
 * on, a multiple of a page; read-only, `shared` or private.  Returns MAPIX_OK, or MAPIX_E_SYSTEM with errno
 * set and the memory unchanged. */
int mapix_map_file(uint8_t *at, uint64_t nbytes, int64_t fd, uint64_t from, int shared);

/* Make memory at `at`, complete private pages of the caller, writable or read-only.  Returns MAPIX_OK,
 * or MAPIX_E_SYSTEM with errno set. */
int mapix_protect(uint8_t *at, uint64_t nbytes, int writable);

/* How a map will be read. */
enum { MAPIX_NORMAL, MAPIX_RANDOM, MAPIX_SEQUENTIAL };

/* Advise the kernel of how all memory of the map, which begins at a page, will be read: one of these. */
void mapix_advise(const mapix_map *map, int advice);

/* Ask the kernel to read bytes at .. at + nbytes, which lie in the map, in the background. */
void mapix_willneed(const mapix_map *map, uint64_t at, uint64_t nbytes);

/* --- VIMH files: finding records ------------------------------------------------------------------
 *
 * A record is u16 h, w, c; with the 14-byte head two f32; u8 N; N pairs of u8 (label id, code); h*w*c
 * bytes. */

/* One record of a table, 16 bytes, little-endian on disk and in memory.
 * at_n: byte offset of the record in the low 56 bits, N in the high 8. */
typedef struct {
    uint64_t at_n;
    uint16_t h, w, c;
    uint16_t reserved;
} mapix_entry;

/* The header of a stored index; src/mapix/vimh/index_store.py has its bytes. */
enum { MAPIX_HAS_COLUMNS = 1, MAPIX_HAS_PRESENT = 2, MAPIX_HAS_CHECKSUMS = 4, MAPIX_HAS_MOMENTS = 8 };
enum { MAPIX_INDEX_ENTRIES = 0, MAPIX_INDEX_LABELS = 1, MAPIX_INDEX_CHECKSUMS = 2, MAPIX_INDEX_MOMENTS = 3 };
enum { MAPIX_INDEX_TABLES = 4 };
typedef struct {
    uint64_t dev, ino, size; /* of the file that it was made for */
    int64_t mtime_ns, ctime_ns;
    uint64_t nrecords, covered, stride, at;
    uint64_t generation, entries_at;
    uint64_t tables_at[4], tables_nbytes[4]; /* where each table lies, MAPIX_INDEX_ENTRIES and so on */
    uint32_t crcs[4];
    uint32_t head_nbytes, ids_differ, h, w, c, nlabels, channels;
    uint32_t has; /* MAPIX_HAS_COLUMNS and so on */
    uint32_t sample;
    uint32_t slot; /* the number of the slot that counts */
    uint64_t ids[4]; /* set of label ids, bit i of word i/64 */
} mapix_index;

/* Read the header of a stored index of nbytes, of which head_nbytes are there, for a file of file_nbytes that is
 * opened with these options.  Returns MAPIX_OK: then the fields fit one another, and all tables lie in the index,
 * one after another, of at most 2^48 records.  MAPIX_E_ARGUMENT: it cannot be used. */
int mapix_index_read(const uint8_t *head, uint64_t head_nbytes, uint64_t nbytes, const char *options,
                     uint64_t file_nbytes, mapix_index *found);

/* Why a stored file is not trusted for a data file: it is of another user than this one, root and the owner of the
 * data; other users may write to it, except a group that may write to the data; all users may replace files in
 * its folder, or this cannot be found out. */
enum { MAPIX_TRUSTED = 0, MAPIX_OF_ANOTHER = 1, MAPIX_WRITABLE = 2, MAPIX_REPLACEABLE = 3, MAPIX_NO_FOLDER = 4 };
typedef struct {
    uint64_t mode, uid, gid; /* as stat states them */
} mapix_owner;
int mapix_distrust(const char *path, const mapix_owner *file, const mapix_owner *data);

/* Open a stored index for a file of `data`, as mapix_open does, and read its header.  Returns MAPIX_OK; MAPIX_E_SYSTEM
 * with errno set; MAPIX_E_ARGUMENT where it is not trusted or cannot be used, and nothing is open. */
int mapix_index_open(const char *path, const mapix_owner *data, uint64_t data_nbytes, const char *options, mapix_map *map,
                     mapix_about *about, mapix_index *found);

/* The state of a walk over a file.  The caller zeroes it, sets head_nbytes (6 or 14), and calls a
 * function below until `at` reaches the end of the map. */
typedef struct {
    uint32_t head_nbytes;
    uint32_t ids_differ; /* mapix_vimh_run only: 1 once two records list different label ids */
    uint64_t at;         /* byte of the next record; all records before it are in bounds */
    uint64_t nrecords;   /* records before `at` */
    uint64_t ids[4];     /* set of label ids found, bit i of word i/64 */
    mapix_where where;   /* the record that the walk stopped at */
} mapix_walk;

/* Walk while records have the shape and the N of the file's first record.  Stops at the first record
 * that differs, at the end of the map, or once walk->at >= stop_at.  Reads the head and the pairs of
 * every record.  Fails only if the first record is bad or a page cannot be read. */
int mapix_vimh_run(const mapix_map *map, mapix_walk *walk, uint64_t stop_at);

/* Walk over records of any size and write one entry per record, until the end of the map, walk->at >=
 * stop_at, or `capacity` entries.  `scratch` has mapix_scratch_entries() entries.  *nwritten is
 * the number of entries written, also on error: then they are the records before the bad one. */
int mapix_vimh_table(const mapix_map *map, mapix_walk *walk, uint64_t stop_at,
                     mapix_entry *entries, uint64_t capacity, mapix_entry *scratch,
                     uint64_t *nwritten);

/* The same by the simplest loop, one record after the other: the reference for tests and benchmarks. */
int mapix_vimh_hop(const mapix_map *map, mapix_walk *walk, uint64_t stop_at,
                   mapix_entry *entries, uint64_t capacity, uint64_t *nwritten);

/* How many entries mapix_vimh_table needs as scratch. */
uint64_t mapix_scratch_entries(void);

/* --- tables of records ---------------------------------------------------------------------------- */

/* Where the records of a file are.  With `entries`, record i is entries[i]; if `end` is not 0, they lie one
 * after the other, from first.at to `end`, and functions that read record i in the file compare where it
 * ends with where record i + 1 begins: a caller that reads all of them has read the records of the file.
 * Without `entries`, record i is at first.at + i * stride, and all are like `first`.  With head_nbytes 0,
 * records are numbers without header and labels, which need a stride; h, w and c of `first` are then their
 * shape, or 0 if they are not images.  Untrusted: the functions below check the bounds of every record, and
 * those that read a record compare its header. */
typedef struct {
    uint64_t nrecords;
    uint64_t stride;
    const mapix_entry *entries;
    uint64_t end; /* of the last entry; 0: the entries may lie anywhere */
    mapix_entry first;
    uint32_t head_nbytes; /* 0, 6 or 14 */
    uint32_t interleaved; /* 0: pixels are (c, h, w); 1: (h, w, c) */
} mapix_table;

/* Find record `row`: its entry, in bounds of the map, with pixels, and equal to the header in the file.
 * If it is found, the file is not checked for changes: the call costs one system call, the guard's. */
int mapix_table_find(const mapix_map *map, const mapix_table *table, uint64_t row,
                     mapix_entry *found, mapix_where *where);

/* The same, but it reads nothing and returns MAPIX_E_FAULT: for mapix._record over files whose pages have to be
 * brought by Python before a record is found. */
int mapix_table_find_none(const mapix_map *map, const mapix_table *table, uint64_t row,
                          mapix_entry *found, mapix_where *where);

enum { MAPIX_U8 = 0, MAPIX_F32 = 1, MAPIX_F16 = 2 };
enum { MAPIX_NCHW = 0, MAPIX_NHWC = 1 };
enum { MAPIX_EXACT = 0, MAPIX_PAD = 1, MAPIX_CROP = 2, MAPIX_CENTRE = 4 };
enum { MAPIX_PROBE_NONE = 1 << 30 };

/* Random changes of images, the same for equal keys and positions on every machine.  Each image is first put
 * on the gather's canvas, or stays as it is if the canvas is 0 x 0.  A window of h x w is taken at random from the
 * canvas with pad_h and pad_w pixels around it, then mirrored with chances of flip / 2^32, and a part around a
 * random pixel is cut out.  What has no pixels gets the gather's pad_value. */
typedef struct {
    uint64_t key;
    const int64_t *positions; /* (nrows): which random numbers each record gets */
    uint32_t h, w;            /* of the output; c is the gather's */
    uint32_t pad_h, pad_w;
    uint64_t flip, flip_vertical; /* left to right, top to bottom */
    uint32_t cut_h, cut_w;        /* cut out, as far as it is inside; both 0: nothing */
} mapix_augment;

/* Mix image i of n with image n - 1 - i, in place: shares[i] of itself, the rest of the other.  The middle one of
 * an odd number stays as it is.  `size` is the numbers of an image. */
int mapix_mix(float *images, uint64_t nimages, uint64_t size, const float *shares);

/* Output of mapix_table_gather.  Images are written in one of three ways: on a canvas of h x w x c; with
 * `swap`, records as the file has them, stride bytes each; with `flat_at`, image bytes back to back. */
typedef struct {
    uint8_t *images;       /* (nrows, c, h, w) or (nrows, h, w, c), or bytes; null: not wanted */
    uint64_t images_nbytes;
    uint32_t dtype;        /* MAPIX_U8, MAPIX_F32, MAPIX_F16 */
    uint32_t layout;       /* MAPIX_NCHW, MAPIX_NHWC */
    uint32_t h, w, c;      /* the canvas that every record is put on */
    uint32_t fit;          /* MAPIX_EXACT, or MAPIX_PAD | MAPIX_CROP | MAPIX_CENTRE (crops) */
    const float *affine;   /* c pairs (a, b): out = fma(byte, a, b); null for MAPIX_U8 */
    float pad_value;       /* in units of the output */
    uint32_t ncolumns;     /* label columns */
    const int16_t *columns; /* 256: label id -> column, or -1 */
    uint8_t *labels;       /* (nrows, ncolumns) values, 0 where missing; null: not wanted */
    uint8_t *present;      /* (nrows, ncolumns) 1 where the record has the label */
    uint16_t *shapes;      /* (nrows, 3) h, w, c of each record, or null */
    float *spec_range;     /* (nrows, 2) spec_min, spec_max, NaN with the 6-byte head; or null */
    const uint64_t *flat_at; /* nrows + 1 offsets into `images`, from mapix_table_extent; or null */
    uint32_t swap;         /* 1: bytes as they are; 2, 4, 8: reversed in each number of that size; or 0 */
    uint32_t nthreads;     /* 0 and 1: the calling thread alone */
    uint32_t probe;        /* if not 0, records are asked for as mapix_table_willneed does with this probe,
                              some ahead of copying; MAPIX_PROBE_NONE: without checking */
    uint64_t *nasked;      /* with a probe, how many were asked for; or null */
    const mapix_augment *augment; /* null: images as they are */
} mapix_gather;

/* Copy records `rows` (negative numbers count from the end) in order into the output: one pass, which
 * casts, scales, transposes, pads and crops.  On an error the output is undefined; where->record is the
 * position in `rows` for MAPIX_E_ROW, else the number of the record. */
int mapix_table_gather(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                       uint64_t nrows, const mapix_gather *gather, mapix_where *where);

/* One of several files whose records count as one sequence: `begin` is the number of its first record. */
typedef struct {
    const mapix_map *map;
    const mapix_table *table; /* without entries */
    uint64_t begin;
} mapix_part;

/* Several files, at least one, and what mapix_joint_gather needs: memory for the part and the number there
 * of each row, and for whether a part has a row.  `failed` is the part that an error is about. */
typedef struct {
    const mapix_part *parts;
    uint64_t nparts;
    uint32_t *which;  /* nrows */
    int64_t *local;   /* nrows */
    uint8_t *touched; /* nparts */
    uint64_t failed;
} mapix_joint;

/* mapix_table_gather over records of several files, without flat_at.  Records that are copied with `swap`
 * have one size.  Only files with a row are checked for changes. */
int mapix_joint_gather(mapix_joint *joint, const int64_t *rows, uint64_t nrows,
                       const mapix_gather *gather, mapix_where *where);

/* mapix_table_willneed over records of several files. */
int mapix_joint_willneed(mapix_joint *joint, const int64_t *rows, uint64_t nrows, uint32_t probe,
                         uint64_t *nasked, mapix_where *where);

/* Sizes of the images of `rows`: extent[0..2] the largest h, w, c, [3..5] the smallest, [6] the sum of
 * bytes.  If `flat_at` is not null: nrows + 1 offsets, where each image begins when all lie back to back,
 * and where the last one ends.  Reads the table only.  MAPIX_E_SPAN for a record that does not lie within
 * a file of nbytes. */
int mapix_table_extent(uint64_t nbytes, const mapix_table *table, const int64_t *rows,
                       uint64_t nrows, uint64_t *extent, uint64_t *flat_at, mapix_where *where);

/* Whether the first record, the last one and those evenly between them, `count` in all, have the headers that
 * the table states: read by `fd`, all at once from a disk, without touching the map.  0, too, if that cannot
 * be found out: without `fd`, or with more than 1024. */
int mapix_table_agrees(const mapix_map *map, const mapix_table *table, uint64_t count);

/* Ask the kernel to read the pages of `rows` in the background (MADV_WILLNEED), in the order in which they
 * lie in the file, neighbours at once.  With `probe` > 0, that many of the rows, evenly spread, are checked
 * first; if all are in memory, nothing is asked for.  *nasked is the number of records asked for. */
int mapix_table_willneed(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                         uint64_t nrows, uint32_t probe, uint64_t *nasked, mapix_where *where);

/* CRC32C of each of `rows`: of the complete record with its header. */
int mapix_table_checksums(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                         uint64_t nrows, uint32_t *crcs, mapix_where *where);

/* Exact sums of the pixels of one channel.  The caller sets low to 255 and the other fields to 0. */
typedef struct {
    uint64_t count, sum, squares;
    uint32_t low, high;
} mapix_moments;

/* Add the pixels of `rows` to the moments of their channels.  MAPIX_E_ARGUMENT if a record has more than
 * nchannels. */
int mapix_table_moments(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                       uint64_t nrows, uint32_t nchannels, mapix_moments *moments,
                       mapix_where *where);

/* --- pickles and text ---------------------------------------------------------------------------- */

/* Read lists of numbers below 256 out of a pickle (protocols 1 and up): for each `]`, a memo opcode, then
 * nothing (ncolumns 0), `K` x `a` (1), or `(`, ncolumns times `K` x, `e`.  Complete rows from byte `at` on
 * are written to out (nrows, ncolumns), until a row differs from that pattern.  run->nrows is the number of
 * rows read, run->at the byte of the next opcode.  `memo` is the memo number of the first row; each later
 * row has the next one. */
typedef struct {
    uint64_t at;
    uint64_t nrows;
} mapix_pickle_run;

int mapix_pickle_rows(const mapix_map *map, uint64_t at, uint64_t memo, uint32_t ncolumns, uint8_t *out,
                      uint64_t nrows, mapix_pickle_run *run);

/* State of a scan for the lines of a text file.  A line ends after its \n, or at the end of the file.  A
 * line of spaces, tabs and \r is blank.  A UTF-8 byte order mark at the start of the file does not belong
 * to the first line.  The caller zeroes the state, and calls until `at` is the end of the map. */
typedef struct {
    uint64_t at;       /* bytes before it were scanned */
    uint64_t begin;    /* of the line that contains `at`; all lines before it were found */
    uint64_t nlines;   /* lines found, including blank ones */
    uint64_t nrecords; /* lines found that are not blank */
    uint64_t longest;  /* bytes of the longest of these, without its \n */
    uint64_t busy;     /* 1 if the line that contains `at` is not blank so far */
} mapix_lines;

/* Find lines until the end of the map, lines->at >= stop_at, or `capacity` lines that are not blank.
 * begins[k] is the byte where such a line begins, numbers[k] its number among all lines, from 1; either may
 * be null.  *nwritten is their number.  After an error the state is unchanged and *nwritten is 0. */
int mapix_jsonl_lines(const mapix_map *map, mapix_lines *lines, uint64_t stop_at, uint64_t *begins,
                      uint64_t *numbers, uint64_t capacity, uint64_t *nwritten);

/* Hash the names of files in n lines: line k is [begins[k], begins[k + 1]), a JSON object between blanks.  Its name is
 * the text under the only key that is `file_name` or ends with `_file_name`, or, without such a key, under `filepath`.
 * hashes[k] is that of mapix_name_hashes (MAPIX_NAME_IID) if found[k] is MAPIX_JSONL_NAMED, else 0. */
enum {
    MAPIX_JSONL_UNNAMED = 0, /* the object has no such key, or it is null */
    MAPIX_JSONL_NAMED = 1,
    MAPIX_JSONL_ODD = 2 /* for the caller to parse: not JSON, a key that occurs twice, several names, a number or a list as
                           the name, escapes in it, or a shorter spelling of it (a//b, ./a); NaN; more than most_nbytes */
};
int mapix_jsonl_names(const mapix_map *map, const uint64_t *begins, uint64_t n, uint64_t most_nbytes, uint64_t seed,
                      uint64_t *hashes, uint8_t *found);

/* --- IID archives ---------------------------------------------------------------------------------
 *
 * The key of a segment is its number.  A window is a box.  Functions that take keys or windows in bulk
 * stop before one whose results do not fit into the output, and report where to continue; the caller
 * calls again, if there was no progress with a larger output. */

/* The sections of an archive, as byte offsets of the file; they must lie in the map. */
typedef struct {
    uint64_t nsegments;
    uint64_t lut_at;
    uint64_t iids_at, iids_nbytes;
    uint64_t segs_at, segs_nbytes;
} mapix_iid;

/* Memory in which several regions of a segment are combined: at least MAPIX_CANVAS words, zeros before a
 * call, and after it unless the call fails. */
enum { MAPIX_CANVAS = 1024 };
typedef struct {
    uint64_t *words;
    uint64_t nwords;
} mapix_canvas;

/* Check lookup rows [first, first + n): the keys are their numbers, names and segments lie in their
 * sections.  With boxes (n, 4) and areas (n,), these are also read from the segments' headers.  Three totals:
 * headers of the early layout, in which key and area are exchanged (0 without boxes); bytes of the names;
 * bytes of the segments. */
int mapix_iid_columns(const mapix_map *map, const mapix_iid *iid, uint64_t first, uint64_t n,
                      uint16_t *boxes, uint32_t *areas, uint64_t *totals, mapix_where *where);

/* Write the masks of n segments as bytes 0 and 1: that of keys[i] within windows[i], which need not lie in
 * the segment's box, to out + offsets[i], up to offsets[i + 1]. */
int mapix_iid_masks(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys,
                    const uint16_t *windows, uint64_t n, const uint64_t *offsets, uint8_t *out,
                    uint64_t out_nbytes, mapix_where *where);

/* Write the box of a segment, and the mask of that box if it has at most `capacity` pixels; otherwise
 * MAPIX_E_SHAPE. */
int mapix_iid_own_mask(const mapix_map *map, const mapix_iid *iid, uint32_t key, uint16_t *box,
                       uint8_t *out, uint64_t capacity, mapix_where *where);

/* List the regions that have pixels, of segments [*key, end): boxes (n, 4), and for each region
 * key << 32 | byte of its bits in the segments' section.  *key is set to the segment to continue with. */
int mapix_iid_parts(const mapix_map *map, const mapix_iid *iid, uint64_t *key, uint64_t end,
                    uint16_t *boxes, uint64_t *leaves, uint64_t capacity, uint64_t *n,
                    mapix_where *where);

/* A tree over the boxes of regions (mapix_tree_build); `leaves` are those of mapix_iid_parts in the tree's
 * order. */
typedef struct {
    const uint16_t *nodes;
    const uint64_t *leaves;
    uint64_t n;
} mapix_parts;

/* Find the segments that have a pixel in windows [*window, nwindows).  `found` gets their keys back to back,
 * counts[i] of them for window i, ascending, each once; it needs twice as many places as the tree has
 * boxes that meet the window.  *window is set to the one to continue with.  A tree with wrong contents
 * gives wrong keys, and no invalid access. */
int mapix_iid_hits(const mapix_map *map, const mapix_iid *iid, const mapix_parts *parts,
                   const uint16_t *windows, uint64_t nwindows, uint64_t *window, uint32_t *found,
                   uint64_t capacity, uint64_t *nfound, uint32_t *counts, mapix_where *where);

/* Count the pixels of segment keys[i] in windows[i]; with `any`, stop at the first pixel and return 1. */
int mapix_iid_count(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys,
                    const uint16_t *windows, uint64_t n, uint32_t any, const mapix_canvas *canvas,
                    uint32_t *counts, mapix_where *where);

/* Count the pixels that segments a[i] and b[i] share. */
int mapix_iid_shared(const mapix_map *map, const mapix_iid *iid, const uint32_t *a,
                     const uint32_t *b, uint64_t n, const mapix_canvas *canvas, uint32_t *counts,
                     mapix_where *where);

/* Where the pixels of a segment are: the byte of the bits of its only region, and the region's box.  `at` is
 * 0 if it has no region, and MAPIX_SEVERAL (all ones) if it has several, or one that ends within 8 bytes of
 * the end of the file; then the box is the segment's. */
typedef struct {
    uint64_t at;
    uint16_t box[4];
} mapix_place;

/* Check all regions of segments keys[i], and report where they are. */
int mapix_iid_places(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                     mapix_place *places, mapix_where *where);

/* Segments that are compared with one another: a tree over their boxes, and keys and places in its order; order[i]
 * is the number of keys[i] among the sorted keys.
 * `canvas` has two times canvas_nwords words, in which pixels are put so that segments are compared word by word;
 * those that need more are combined in `rows`.  `kept`, n zeros at first, states where in the second half of the
 * canvas a segment is; the caller sets it to zeros again after a file has changed.  Of several files, which[i] is
 * the file of keys[i], and its key there is less by the `begin` of the file. */
typedef struct {
    const uint16_t *nodes;
    const uint32_t *keys, *order;
    const mapix_place *places;
    uint64_t n;
    uint64_t *canvas;
    uint64_t canvas_nwords;
    uint64_t *kept; /* n */
    mapix_canvas rows;
    const mapix_part *parts; /* tables are not used; null: all are of the file that the call names */
    const mapix_iid *iids;   /* nparts */
    const uint32_t *which;   /* n */
    uint64_t nparts;
} mapix_iid_join;

/* Pairs that share pixels: i < j, of `order`, and the number of pixels, three numbers each, n so far, at most
 * `capacity`.
 * leader and next_leaf are where to continue: 0 at first; leader is the join's n when all is done.  `taken` are the
 * words of the canvas that were used so far.  work counts what was done, in units of about a nanosecond: words
 * compared, bytes cleared, pairs of boxes.  `failed` is the
 * part that an error is about; where->record is a key there. */
typedef struct {
    uint64_t leader, next_leaf;
    uint32_t *pairs;
    uint64_t capacity, n, taken, work, failed;
} mapix_iid_pairs;

/* Continue to compare, until `pairs` is full or a certain amount of work was done.  Of several files, all are
 * checked for changes; map and iid are not used. */
int mapix_iid_overlaps(const mapix_map *map, const mapix_iid *iid, const mapix_iid_join *join,
                       mapix_iid_pairs *pairs, mapix_where *where);

/* Sort the pairs of several lists, `capacity` in all, by i and j, and write their keys, keys[i] and keys[j], and the
 * pixels to `columns`, of `capacity` numbers each.  `scratch` has nkeys + 1 + 2 * capacity words. */
typedef struct {
    const uint32_t *pairs;
    uint64_t n;
} mapix_pair_list;

int mapix_pairs_sort(const mapix_pair_list *lists, uint64_t nlists, const uint32_t *keys, uint64_t nkeys,
                     uint64_t *scratch, uint32_t *columns, uint64_t capacity);

/* Segments that are painted over one another, the last one on top.  `labels` of the window, row by row, get
 * values[i] where keys[i] has a pixel; `depth` (or null) counts the segments of each pixel.  `boxes` are the
 * segments', (n, 4); `scratch` has 8 (n + 1) numbers. */
typedef struct {
    const uint32_t *keys;
    const int32_t *values;
    const uint16_t *boxes;
    uint64_t n;
    uint16_t window[4];
    int32_t *labels;
    uint16_t *depth;
    uint32_t *scratch;
} mapix_iid_painting;

/* Paint rows [begin, end) of the image; they must lie in the window. */
int mapix_iid_paint(const mapix_map *map, const mapix_iid *iid, const mapix_iid_painting *painting,
                    uint32_t begin, uint32_t end, mapix_where *where);

/* Combine the pixels of segments in a window with a canvas of rows of nwords words, the leftmost pixel in the
 * highest bit.  what: 0 sets the pixels of any segment, 1 clears those that not every segment has, 2 clears
 * those of any segment.  For 1, `other` is as large as canvas, and zeros. */
int mapix_iid_combine(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                      uint32_t what, const uint16_t *window, uint64_t *canvas, uint64_t *other,
                      uint64_t nwords, mapix_where *where);

/* Write a mask (h, w) of bytes (wide 0) or u32 (wide 1) as the regions of a segment whose box begins at minr,
 * minc: the 8-connected components of equal values other than 0, in raster order of their first pixel.
 * scratch has at least mapix_iid_scratch(nruns) words; mapix_iid_runs counts the mask's runs (pixels of one
 * value other than 0 in one row), at most h w.  *nbytes is the size of the regions, also if `out` is too
 * small (MAPIX_E_ARGUMENT). */
uint64_t mapix_iid_scratch(uint64_t nruns);
int mapix_iid_runs(const void *mask, uint32_t wide, uint32_t h, uint32_t w, uint64_t *nruns);
int mapix_iid_pack(const void *mask, uint32_t wide, uint32_t h, uint32_t w, uint32_t minr,
                   uint32_t minc, uint32_t *scratch, uint64_t nscratch, uint8_t *out,
                   uint64_t out_nbytes, uint64_t *nbytes, uint32_t *area, uint32_t *nregions);

/* Check nbytes of regions, heads included, as those of a segment of this box: MAPIX_OK, MAPIX_E_IID_BOX or
 * MAPIX_E_IID_REGION; where->at counts from their first byte. */
int mapix_iid_regions(const uint8_t *regions, uint64_t nbytes, const uint16_t *box,
                      mapix_where *where);

/* Copy the names of keys, back to back: the domain of keys[i] ends at ends[2 i], its iid at ends[2 i + 1].
 * *nbytes is their size, also if `out` is too small: then MAPIX_E_SHAPE. */
int mapix_iid_texts(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                    uint64_t *ends, uint8_t *out, uint64_t capacity, uint64_t *nbytes,
                    mapix_where *where);

/* Make a table of names: nslots (a power of two, more than twice nsegments) words, which the caller has
 * zeroed, get a tag of the hash of each name, and where the name of its lowest key begins in the section of
 * names.  next (nsegments) links to the next higher key of the same name; UINT32_MAX at the last one.  A secret
 * seed prevents that a hostile file makes the table slow. */
int mapix_iid_names(const mapix_map *map, const mapix_iid *iid, uint64_t seed, uint64_t *slots,
                    uint64_t nslots, uint32_t *next, mapix_where *where);

/* Find n names: the lowest key of each, -1 for unknown ones.  `bytes` has domain and iid of each name, which
 * end at ends[2 i] and ends[2 i + 1].  A table with wrong contents gives wrong keys, and no invalid access. */
int mapix_iid_find(const mapix_map *map, const mapix_iid *iid, uint64_t seed,
                   const uint64_t *slots, uint64_t nslots, const uint8_t *bytes,
                   const uint64_t *ends, uint64_t n, int64_t *keys, mapix_where *where);

/* Hash the names of keys first..first + n, or of n names as mapix_iid_find takes them: domain and iid, or one
 * of them alone.  Equal names have equal hashes in every file, on every machine, in every version: others
 * store hashes of seed 0.  Different names may have one hash, so the name of what is found is compared. */
enum { MAPIX_NAME, MAPIX_NAME_IID, MAPIX_NAME_DOMAIN };
int mapix_iid_hashes(const mapix_map *map, const mapix_iid *iid, uint64_t first, uint64_t n,
                     uint32_t part, uint64_t seed, uint64_t *hashes, mapix_where *where);
int mapix_name_hashes(const uint8_t *bytes, const uint64_t *ends, uint64_t n, uint32_t part,
                      uint64_t seed, uint64_t *hashes);

/* Encode segments keys[*done, n) as COCO's run lengths of an image of h x w, which must contain them: as text,
 * or as u32 counts, back to back.  ends[i] is where the encoding of keys[i] ends; the first of this call
 * begins at 0.  *done is set to the key to continue with.  scratch has 64 x (h + 1) numbers, rows h and
 * (h + 63) / 64 words, which are zeros. */
int mapix_iid_rle(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                  uint32_t h, uint32_t w, uint32_t text, uint16_t *scratch, uint64_t *rows,
                  uint8_t *out, uint64_t capacity, uint64_t *ends, uint64_t *done, mapix_where *where);

/* Decode such a text into counts, at most nbytes of them.  MAPIX_E_ARGUMENT for text that is not an encoding,
 * and for counts of more than 32 bits. */
int mapix_rle_counts(const uint8_t *text, uint64_t nbytes, uint32_t *counts, uint64_t *n);

/* Compute the tight box of the ones of an encoding; zeros if it has no ones.  MAPIX_E_ARGUMENT unless the
 * counts add up to h x w. */
int mapix_rle_box(const uint32_t *counts, uint64_t n, uint32_t h, uint32_t w, uint16_t *box);

/* Write the ones of an encoding of an image h pixels high as bytes (box).  MAPIX_E_ARGUMENT if a one lies
 * outside the box. */
int mapix_rle_mask(const uint32_t *counts, uint64_t n, uint32_t h, const uint16_t *box,
                   uint8_t *mask);

/* Numbers of corners and rings, and how many rings were cut off others at a corner where two pixels touch. */
typedef struct {
    uint64_t npoints, nrings, nsplit;
} mapix_outline_counts;

/* How many words of scratch mapix_outlines needs. */
uint64_t mapix_outlines_scratch(uint32_t h, uint32_t w, uint64_t capacity);

/* Write the rings of a mask, bytes (h, w) that are 0 or not, whose first pixel is at (minr, minc): x and y of
 * each corner along the pixels' sides, ring after ring; ring i ends before corner ends[i].  Pixels lie to the
 * right: outlines run clockwise (y down), holes counterclockwise.  Pixels that only touch at a corner are kept
 * apart, and no ring has a corner twice.  A ring begins with its first side that leads to the right, in raster
 * order, and so do rings, unless nsplit.  MAPIX_E_SHAPE if there are more corners or rings than `capacity`,
 * MAPIX_E_ARGUMENT if there are more than most_sides sides of pixels. */
int mapix_outlines(const uint8_t *mask, uint32_t h, uint32_t w, uint32_t minr, uint32_t minc,
                   uint64_t most_sides, uint64_t *scratch, int32_t *points, uint32_t *ends,
                   uint64_t capacity, mapix_outline_counts *counts);

/* Find where a polygon crosses the middles of columns of an image of h x w, as COCO's rasteriser does: corners
 * are rounded to fifths of a pixel, and a pixel belongs to the polygon if the middle of its top side does.
 * xy has x, y of each corner; their absolute values are at most 1e8.  A crossing is column * h + row, row
 * from 0 to h; up to `capacity` are written, and *n is the number of all. */
int mapix_polygon_crossings(const double *xy, uint64_t ncorners, uint32_t h, uint32_t w,
                            uint32_t *places, uint64_t capacity, uint64_t *n);

/* --- trees over boxes ------------------------------------------------------------------------------
 *
 * Nodes of 16 children, four rows of 16 u16 each (minr, minc, maxr, maxc), level by level from the leaves
 * on; `order` has the number of each leaf's box, along a Hilbert curve.  A tree with wrong contents gives
 * wrong numbers below n, and no invalid access. */

/* How many nodes a tree over n boxes has. */
uint64_t mapix_tree_nodes(uint64_t n);

/* Write nodes (64 u16 each) and order (n); scratch has 2 n words. */
int mapix_tree_build(const uint16_t *boxes, uint64_t n, uint16_t *nodes, uint32_t *order,
                     uint64_t *scratch);

/* Find the boxes that share a pixel with a window: at most `capacity` numbers, in the order of the tree.  *nfound
 * counts all of them. */
int mapix_tree_search(const uint16_t *nodes, const uint32_t *order, uint64_t n,
                      const uint16_t *window, uint32_t *found, uint64_t capacity, uint64_t *nfound);

/* The same for windows [*window, nwindows): counts[i] numbers for window i, ascending, back to back.  `found`
 * needs twice as many places as there are results.  *window is set to the one to continue with. */
int mapix_tree_search_many(const uint16_t *nodes, const uint32_t *order, uint64_t n,
                           const uint16_t *windows, uint64_t nwindows, uint64_t *window,
                           uint32_t *found, uint64_t capacity, uint64_t *nfound, uint32_t *counts);

/* --- JSON text: arrays of numbers -----------------------------------------------------------------
 *
 * `[1, -2.5]`, or rows, `[[1, 2], [3, 4]]`.  A number is read as the nearest float (ties to even), as infinite
 * if it is too large.  Blanks are space, tab, CR, LF. */
enum {
    MAPIX_JSON_ORIGINAL = 0, /* numbers as VisualRBM reads them, among them `-`, `1.`, `-.5`, `1.0e`; an
                                exponent needs a dot before it */
    MAPIX_JSON_ANY = 1       /* also exponents without a dot, and so every number of JSON */
};
enum { MAPIX_JSON_BEGIN = 0, MAPIX_JSON_DONE = 1, MAPIX_JSON_END = 256 /* got: the text ends */ };

/* State of reading an array.  The caller zeroes it, sets `at` to the first bracket, and calls until state is
 * MAPIX_JSON_DONE; then `at` is after the last bracket. */
typedef struct {
    uint64_t at;
    uint64_t nrows;     /* complete rows so far; a flat array is one row */
    uint64_t ncolumns;  /* numbers per row: as given, or as in the first row */
    uint64_t column;    /* numbers so far in the current row */
    uint64_t ninfinite; /* numbers too large for a float */
    uint32_t state;
} mapix_json_run;

/* Read an array of `depth` 1 or 2 into out (nrows, ncolumns).  With out null, numbers are counted and not
 * converted; nrows and ncolumns may then be UINT64_MAX: any number of rows, all as long as the first.
 * Returns once run->at >= stop_at, at the end, or at an error: then where->at is run->at, where->record the
 * row, and run->column the number of its numbers before the error.  Reads no byte before run->at. */
int mapix_json_numbers(const mapix_map *map, mapix_json_run *run, uint32_t depth, uint32_t grammar,
                       float *out, uint64_t nrows, uint64_t ncolumns, uint64_t stop_at,
                       mapix_where *where);

/* --- JSON text: items of an array -----------------------------------------------------------------
 *
 * An item is found by brackets, quotes and commas.  What is in it is not parsed, except for the keys of
 * objects of which values are wanted.  Brackets nest up to 64 deep. */

/* State of a scan.  The caller zeroes it, sets `at` to the `[`, and calls until state is MAPIX_JSON_DONE; then
 * `at` is after the `]`. */
typedef struct {
    uint64_t at;
    uint64_t nitems;
    uint32_t state;
} mapix_json_list;

/* Find items until the end of the array, list->at >= stop_at, or `capacity` items.  Item k is sizes[k] bytes at
 * begins[k].  With nkeys, each item is an object; key j is the bytes from key_ends[j - 1] on, and
 * places[k * nkeys + j] is where its value begins in the item (of several the last one): 0 if there is none,
 * UINT32_MAX in an object with a key that has escapes.  On MAPIX_E_JSON_TOKEN and MAPIX_E_JSON_LONG (an item of
 * more than most_nbytes, which is 1 or more) the items before the error are written; where->record is the item. */
int mapix_json_items(const mapix_map *map, mapix_json_list *list, const uint8_t *keys,
                     const uint32_t *key_ends, uint32_t nkeys, uint32_t most_nbytes,
                     uint64_t stop_at, uint64_t *begins, uint32_t *sizes, uint32_t *places,
                     uint64_t capacity, uint64_t *nfound, mapix_where *where);

/* Find the byte after the value at `at`, which has at most most_nbytes; after MAPIX_E_JSON_TOKEN and
 * MAPIX_E_JSON_LONG *end is where the scan stopped. */
int mapix_json_value_end(const mapix_map *map, uint64_t at, uint64_t most_nbytes, uint64_t *end);

/* Read the numbers at bytes at[n] of the text: with width 0 a number each, into doubles (n,) or integers (n,);
 * with another width an array of so many numbers each, into doubles (n, width).  found[k] states what was
 * there; only GOOD numbers are written, completely.  A double is the one nearest to the text. */
enum {
    MAPIX_JSON_MISSING = 0, /* at[k] is UINT64_MAX */
    MAPIX_JSON_GOOD = 1,
    MAPIX_JSON_OTHER = 2    /* not such a number, or one of more than 19 digits, or with an exponent */
};
int mapix_json_values(const mapix_map *map, const uint64_t *at, uint64_t n, uint32_t width,
                      double *doubles, int64_t *integers, uint8_t *found);

/* Undo the filters of rows of a PNG file.  `filtered` has for each row a byte, its filter, and nbytes;
 * `above` is the row before the first one, zeros at the top; rows is (nrows, nbytes).  MAPIX_E_ARGUMENT for
 * an unknown filter. */
int mapix_png_rows(const uint8_t *filtered, uint64_t nrows, uint64_t nbytes, uint32_t pixel_nbytes,
                   const uint8_t *above, uint8_t *rows);

/* Copy nbytes at `at` to `to`, under the guard.  MAPIX_E_SPAN: expected and got are byte counts. */
int mapix_copy(const mapix_map *map, uint64_t at, uint64_t nbytes, void *to, mapix_where *where);

/* The same by reading the file through `fd`, without touching the map: of a map that is not advised yet, the
 * first touch has megabytes read ahead.  Without a descriptor, as mapix_copy. */
int mapix_read(const mapix_map *map, uint64_t at, uint64_t nbytes, void *to, mapix_where *where);

/* Continue *crc, a CRC32C, by nbytes from each of the places of a file, in order: read by `fd`, else from
 * the map.  On error *crc stays. */
int mapix_file_crc32c(const mapix_map *map, const uint64_t *places, uint64_t nplaces, uint64_t nbytes,
                      uint32_t *crc);

/* CRC32C (Castagnoli) of nbytes at data, continued from `crc` (0 to begin). */
uint32_t mapix_crc32c(const void *data, uint64_t nbytes, uint32_t crc);

/* The CRC32C of each block of `block` bytes; the last one may be shorter.  A sum of 0 is written as 1. */
void mapix_crc32c_blocks(const void *data, uint64_t nbytes, uint64_t block, uint32_t *crcs);

/* Set which kernels run: 0 plain C, 1 AVX2, FMA and F16C, 2 AVX-512, or the best below that the machine
 * has; a negative level sets nothing.  Returns the level in force.  For tests. */
int mapix_simd(int level);

/* Name and version of the compiler that built the core. */
const char *mapix_compiler(void);

/* Set the bytes above which batches of float32 are written past the caches; 0 sets nothing.  Batches of bytes are from
 * a quarter of that on, if a record has 1/512 of the quarter.  Returns the number in force, at first 32 MiB.  For tests. */
uint64_t mapix_stream(uint64_t nbytes);

/* How many faults the guard has caught in this process. */
uint64_t mapix_faults_caught(void);

/* --- random orders --------------------------------------------------------------------------------
 *
 * A permutation of 0..n-1 for each key, the same on every machine, computed without memory. */

/* Write positions [begin, begin + count) of the permutation. */
int mapix_permute(uint64_t n, uint64_t key, uint64_t begin, uint64_t count, int64_t *to);

/* Replace positions, each in 0..n-1, by what the permutation has there. */
int mapix_permute_at(uint64_t n, uint64_t key, uint64_t count, int64_t *positions);

enum { MAPIX_NETWORK = 28 };

/* Write the permutation as MAPIX_NETWORK numbers, for csrc/gpu/gather.cu. */
int mapix_permute_network(uint64_t n, uint64_t key, uint32_t *to);

/* --- tiles ----------------------------------------------------------------------------------------
 *
 * Small pictures of arrays in memory, for a viewer.  No file is read. */
enum {
    MAPIX_TILE_U8 = 0, MAPIX_TILE_I8 = 1, MAPIX_TILE_U16 = 2, MAPIX_TILE_I16 = 3,
    MAPIX_TILE_U32 = 4, MAPIX_TILE_I32 = 5, MAPIX_TILE_F32 = 6, MAPIX_TILE_F64 = 7
};

/* An image: h lines of w pixels of c numbers.  `row`, `col` and `channel` are steps in bytes from `data`,
 * negative ones too.  With data null there is no image, and its tile has no pixels. */
typedef struct {
    const void *data;
    int64_t row, col, channel;
    uint32_t h, w, c;
    uint32_t type;
} mapix_picture;

/* How tiles are drawn.  An image with a side above `size` (1..512) is scaled down, in proportion, smaller
 * ones stay as they are.  nchannels 3: the first three channels, of images with fewer the first as grey;
 * nchannels 1: `channel`, or the last one.  Numbers from low to high become 0..255; with own_range, from
 * the lowest to the highest finite one of each tile. */
typedef struct {
    uint32_t size, nchannels, channel, own_range;
    double low, high;
} mapix_tiling;

/* A tile: h * w * nchannels bytes at `at` of the output, and the range of its numbers. */
typedef struct {
    uint64_t at;
    uint32_t h, w;
    double low, high;
} mapix_tile;

/* Draw n images.  A pixel is the mean of the finite numbers of the area that it covers, of at most 15 lines
 * and columns of it, rounded to even, and 0 if there are none. */
int mapix_tiles(const mapix_picture *pictures, uint64_t n, const mapix_tiling *how, uint8_t *out,
                uint64_t out_nbytes, mapix_tile *tiles);

/* --- pictures of another size ----------------------------------------------------------------------
 *
 * Bytes in memory become the numbers of a batch: no file is read. */

/* Filters, as Pillow has them: where pixels become fewer, each is a sum over the area that it covers. */
enum { MAPIX_BOX = 0, MAPIX_BILINEAR = 1, MAPIX_HAMMING = 2, MAPIX_BICUBIC = 3, MAPIX_LANCZOS = 4 };

/* A picture, h lines of w pixels of c (1..4) bytes, `row` bytes from one line to the next; bytes between two lines may
 * be read.  Its part `box` (left, top, right, bottom, in pixels) becomes to_h lines of to_w pixels at `to`; to_row,
 * to_col and to_channel are steps there, in numbers.  Sides are 1..65535. */
typedef struct {
    const uint8_t *pixels;
    uint64_t row;
    uint32_t h, w, c;
    uint32_t filter;
    float box[4];
    void *to;
    uint64_t to_row, to_col, to_channel;
    uint32_t to_h, to_w;
    uint32_t dtype;      /* MAPIX_U8, MAPIX_F32, MAPIX_F16 */
    const float *affine; /* c pairs (a, b): out = fma(byte, a, b); null: the byte.  Ignored for MAPIX_U8 */
} mapix_resizing;

/* How many bytes of scratch mapix_resize needs: weights, and the lines of the picture that become one line; 0 if the
 * arguments are wrong. */
uint64_t mapix_resize_scratch(const mapix_resizing *r);

/* Scale in one direction, then in the other; each rounds to bytes, with weights of 22 bits.  These are the bytes of
 * Pillow 13's Image.resize.  The scratch memory is aligned for doubles. */
int mapix_resize(const mapix_resizing *r, void *scratch, uint64_t nscratch);

/* cdef: end */

#endif
