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
    MAPIX_E_JSON_ROWS = 18     /* another number of rows: expected, got */
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
 * a file that gets the same number later differs in dev or ino. */
enum { MAPIX_UNCHECKED = -1, MAPIX_BY_PATH = -2 };
typedef struct {
    const uint8_t *base;
    uint64_t nbytes;
    int64_t fd;
    const char *path;
    uint64_t dev, ino, size;
    int64_t mtime_ns;
    int64_t ctime_ns;
} mapix_map;

/* Compare the file of a map with the map's fields: MAPIX_OK; MAPIX_E_CHANGED, also if the file no
 * longer exists; MAPIX_E_SYSTEM. */
int mapix_map_check(const mapix_map *map);

/* Replace memory at `at`, complete pages that the caller has mapped, by the first nbytes of a file;
 * read-only, `shared` or private.  Returns MAPIX_OK, or MAPIX_E_SYSTEM with errno set and the memory
 * unchanged. */
int mapix_map_file(uint8_t *at, uint64_t nbytes, int64_t fd, int shared);

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
 * stop_at, or `capacity` entries.  `scratch` has room for mapix_scratch_entries() entries.  *nwritten is
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

/* Where the records of a file are.  With `entries`, record i is entries[i].  Without, record i is at
 * first.at + i * stride, and all are like `first`.  With head_nbytes 0, records are numbers without
 * header and labels, which need a stride; h, w and c of `first` are then their shape, or 0 if they are
 * not images.  Untrusted: the functions below check the bounds of every record, and those that read a
 * record compare its header. */
typedef struct {
    uint64_t nrecords;
    uint64_t stride;
    const mapix_entry *entries;
    mapix_entry first;
    uint32_t head_nbytes; /* 0, 6 or 14 */
    uint32_t interleaved; /* 0: pixels are (c, h, w); 1: (h, w, c) */
} mapix_table;

/* Find record `row`: its entry, in bounds of the map, with pixels, and equal to the header in the file.
 * If it is found, the file is not checked for changes: the call costs one system call, the guard's. */
int mapix_table_find(const mapix_map *map, const mapix_table *table, uint64_t row,
                     mapix_entry *found, mapix_where *where);

enum { MAPIX_U8 = 0, MAPIX_F32 = 1, MAPIX_F16 = 2 };
enum { MAPIX_NCHW = 0, MAPIX_NHWC = 1 };
enum { MAPIX_EXACT = 0, MAPIX_PAD = 1, MAPIX_CROP = 2, MAPIX_CENTRE = 4 };

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
    uint32_t probe;        /* if not 0, mapix_table_willneed is called first, with this probe */
    uint64_t *nasked;      /* its result, or null */
} mapix_gather;

/* Copy records `rows` (negative numbers count from the end) in order into the output: one pass, which
 * casts, scales, transposes, pads and crops.  On an error the output is undefined; where->record is the
 * position in `rows` for MAPIX_E_ROW, else the number of the record. */
int mapix_table_gather(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                       uint64_t nrows, const mapix_gather *gather, mapix_where *where);

/* Sizes of the images of `rows`: extent[0..2] the largest h, w, c, [3..5] the smallest, [6] the sum of
 * bytes.  If `flat_at` is not null: nrows + 1 offsets, where each image begins when all lie back to back,
 * and where the last one ends.  Reads the table only.  MAPIX_E_SPAN for a record that does not lie within
 * a file of nbytes. */
int mapix_table_extent(uint64_t nbytes, const mapix_table *table, const int64_t *rows,
                       uint64_t nrows, uint64_t *extent, uint64_t *flat_at, mapix_where *where);

/* Ask the kernel to read the pages of `rows` in the background (MADV_WILLNEED).  With `probe` > 0, that
 * many of the rows, evenly spread, are checked first; if all are in memory, nothing is asked for.
 * *nasked is the number of records asked for. */
int mapix_table_willneed(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                         uint64_t nrows, uint32_t probe, uint64_t *nasked, mapix_where *where);

/* CRC32C of each of `rows`: of the complete record with its header. */
int mapix_table_checksums(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                         uint64_t nrows, uint32_t *crcs, mapix_where *where);

/* The pixels of one channel, exactly; the caller sets low to 255 and the rest to 0. */
typedef struct {
    uint64_t count, sum, squares;
    uint32_t low, high;
} mapix_moments;

/* Add the pixels of `rows` to the moments of their channels; MAPIX_E_ARGUMENT when a record has more
 * than nchannels. */
int mapix_table_moments(const mapix_map *map, const mapix_table *table, const int64_t *rows,
                       uint64_t nrows, uint32_t nchannels, mapix_moments *moments,
                       mapix_where *where);

/* Lists of small numbers, one after another, as pickle writes lists of lists (protocols 1 and up): for
 * each `]`, a memo opcode, then nothing (ncolumns 0), `K` x `a` (1) or `(`, ncolumns times `K` x, `e`.
 * Reads whole rows from byte `at` on into out (nrows, ncolumns), until one is not exactly like that:
 * run->nrows is how many were, run->at where the next opcode is.  `memo` is the number that the
 * first of them is memoised under, each after it the next one. */
typedef struct {
    uint64_t at;
    uint64_t nrows;
} mapix_pickle_run;

int mapix_pickle_rows(const mapix_map *map, uint64_t at, uint64_t memo, uint32_t ncolumns, uint8_t *out,
                      uint64_t nrows, mapix_pickle_run *run);

/* Lines of a text file (FORMATS: metadata.jsonl).  A line ends behind its \n, or where the file ends; one
 * of nothing but spaces, tabs and \r is blank.  A UTF-8 byte order mark at the start of the file is no
 * part of its first line.  The caller zeroes the state, and calls again until `at` is the end of the map. */
typedef struct {
    uint64_t at;       /* bytes before it were looked at */
    uint64_t begin;    /* of the line that `at` is in; all lines before it are found */
    uint64_t nlines;   /* lines found, blank ones too */
    uint64_t nrecords; /* those that are not blank */
    uint64_t longest;  /* bytes of the longest of these, without its \n */
    uint64_t busy;     /* 1 once the line that `at` is in has more than blanks */
} mapix_lines;

/* Find lines until the end of the map, lines->at >= stop_at, or `capacity` of them that are not blank:
 * begins[k] is the byte where one begins, numbers[k] its number among all lines, from 1; either may be
 * null.  *nwritten is how many.  On any error the state and *nwritten are as if nothing had happened. */
int mapix_jsonl_lines(const mapix_map *map, mapix_lines *lines, uint64_t stop_at, uint64_t *begins,
                      uint64_t *numbers, uint64_t capacity, uint64_t *nwritten);

/* --- IID archives (FORMATS: IID) ---------------------------------------------------------------
 *
 * Sections as byte offsets of the file; they have to lie in the map.  A box is minr, minc, maxr,
 * maxc, half open, as in the file.  Rows and columns of windows are below 65536. */
typedef struct {
    uint64_t nsegments;
    uint64_t lut_at;
    uint64_t iids_at, iids_nbytes;
    uint64_t segs_at, segs_nbytes;
} mapix_iid;

/* Memory to put several regions of a segment together in: zeros before a call, and after it unless that
 * fails.  At least MAPIX_CANVAS words. */
enum { MAPIX_CANVAS = 1024 };
typedef struct {
    uint64_t *words;
    uint64_t nwords;
} mapix_canvas;

/* Look at lookup rows [first, first + n): keys are their numbers, names and segments lie in their
 * sections.  With boxes (n, 4) and areas (n,), also read these from the segments' headers.  Three
 * totals: headers of the early layout, whose key and area have changed places (0 without boxes); bytes
 * of these names; bytes of these segments. */
int mapix_iid_columns(const mapix_map *map, const mapix_iid *iid, uint64_t first, uint64_t n,
                      uint16_t *boxes, uint32_t *areas, uint64_t *totals, mapix_where *where);

/* The masks of n segments as bytes 0 and 1: that of keys[i] within windows[i] (a box, which may be
 * larger than the segment's or not touch it) to out + offsets[i], which has room up to
 * offsets[i + 1] and gets zeros where there is no pixel. */
int mapix_iid_masks(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys,
                    const uint16_t *windows, uint64_t n, const uint64_t *offsets, uint8_t *out,
                    uint64_t out_nbytes, mapix_where *where);

/* Regions that have pixels, of segments [*key, end), one after the other: boxes (n, 4), and for each
 * key << 32 | byte of its bits in the segments' section.  Ends before a segment for whose regions there
 * is no room; *key is where to go on. */
int mapix_iid_parts(const mapix_map *map, const mapix_iid *iid, uint64_t *key, uint64_t end,
                    uint16_t *boxes, uint64_t *leaves, uint64_t room, uint64_t *n,
                    mapix_where *where);

/* A tree over the boxes of regions (mapix_tree_build), its leaves being what mapix_iid_parts gave, in
 * the tree's order. */
typedef struct {
    const uint16_t *nodes;
    const uint64_t *leaves;
    uint64_t n;
} mapix_parts;

/* Keys of the segments that have a pixel in windows [*window, nwindows), until there is no room for
 * another one's (twice what the tree meets is needed); *window is where to go on.  found has all of
 * them back to back, counts[i] of them for window i, ascending, each once.  A tree that lies about
 * itself gives other keys, no harm. */
int mapix_iid_hits(const mapix_map *map, const mapix_iid *iid, const mapix_parts *parts,
                   const uint16_t *windows, uint64_t nwindows, uint64_t *window, uint32_t *found,
                   uint64_t room, uint64_t *nfound, uint32_t *counts, mapix_where *where);

/* How many pixels of segment keys[i] lie in windows[i]; with `any`, 1 as soon as there is one. */
int mapix_iid_count(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys,
                    const uint16_t *windows, uint64_t n, uint32_t any, const mapix_canvas *canvas,
                    uint32_t *counts, mapix_where *where);

/* How many pixels segments a[i] and b[i] share. */
int mapix_iid_shared(const mapix_map *map, const mapix_iid *iid, const uint32_t *a,
                     const uint32_t *b, uint64_t n, const mapix_canvas *canvas, uint32_t *counts,
                     mapix_where *where);

/* Where the pixels of a segment are: byte of the bits of its only region, and that one's box.  0: it
 * has none.  MAPIX_SEVERAL, all ones: more than one region, or one that ends within 8 bytes of the file's end;
 * then the box is the segment's. */
typedef struct {
    uint64_t at;
    uint16_t box[4];
} mapix_place;

/* Look at all regions of segments keys[i], and say where they are. */
int mapix_iid_places(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                     mapix_place *places, mapix_where *where);

/* Segments to be compared with one another: a tree over their boxes, and keys and places in its
 * order.  canvas has room for two bitmaps of canvas_nbytes each, to put regions together in; segments
 * that need more are compared without. */
typedef struct {
    const uint16_t *nodes;
    const uint32_t *keys;
    const mapix_place *places;
    uint64_t n;
    uint8_t *canvas;
    uint64_t canvas_nbytes;
    mapix_canvas rows; /* for those that need more */
} mapix_iid_join;

/* n pairs that share pixels so far: i < j and how many, three numbers each, with room for more.  leader
 * and behind are where to go on: 0 to begin with, leader is the join's n when all is done.  work counts
 * what was done, in units of about a nanosecond: words compared, bytes cleared, pairs of boxes. */
typedef struct {
    uint64_t leader, behind;
    uint32_t *pairs;
    uint64_t room, n, work;
} mapix_iid_pairs;

/* Compare on, until there is no room left or a good while of work was done. */
int mapix_iid_overlaps(const mapix_map *map, const mapix_iid *iid, const mapix_iid_join *join,
                       mapix_iid_pairs *pairs, mapix_where *where);

/* Sort n pairs (three numbers each) by i and j, which are below `end`; scratch is as large. */
int mapix_pairs_sort(uint32_t *pairs, uint32_t *scratch, uint64_t n, uint64_t end);

/* Segments to be painted over one another, the last one on top: labels of a window, row after row, get
 * values[i] where keys[i] has a pixel; depth (unless null) one more for each segment there.  boxes are
 * the segments', (n, 4); scratch has room for 8 (n + 1) numbers. */
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

/* Paint rows [begin, end) of the image, which lie in the window. */
int mapix_iid_paint(const mapix_map *map, const mapix_iid *iid, const mapix_iid_painting *painting,
                    uint32_t begin, uint32_t end, mapix_where *where);

/* Segments' pixels in a window combined: canvas has rows of nwords words, the leftmost pixel in the
 * highest bit.  what: 0 those of any are added to it, 1 those that not all have are taken off it, 2 those of
 * any are taken off.  For 1, other is as large, and zeros. */
int mapix_iid_combine(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                      uint32_t what, const uint16_t *window, uint64_t *canvas, uint64_t *other,
                      uint64_t nwords, mapix_where *where);

/* A mask (h, w) of bytes (wide 0) or of u32 (wide 1), 0 or not, as the regions of a segment whose box
 * begins at minr, minc: the 8-connected components (of equal values) in raster order of their first
 * pixel.  scratch has nscratch words, at least mapix_iid_scratch of the mask's runs, which
 * mapix_iid_runs counts: stretches of one value but 0 in one row, at most h w of them.  *nbytes is what
 * the regions take in `out`, also when that has no room for it (MAPIX_E_ARGUMENT). */
uint64_t mapix_iid_scratch(uint64_t nruns);
int mapix_iid_runs(const void *mask, uint32_t wide, uint32_t h, uint32_t w, uint64_t *nruns);
int mapix_iid_pack(const void *mask, uint32_t wide, uint32_t h, uint32_t w, uint32_t minr,
                   uint32_t minc, uint32_t *scratch, uint64_t nscratch, uint8_t *out,
                   uint64_t out_nbytes, uint64_t *nbytes, uint32_t *area, uint32_t *nregions);

/* Look at nbytes of regions, heads included, as those of a segment of this box: MAPIX_OK, or
 * MAPIX_E_IID_BOX or MAPIX_E_IID_REGION; where->at counts from their first byte. */
int mapix_iid_regions(const uint8_t *regions, uint64_t nbytes, const uint16_t *box,
                      mapix_where *where);

/* The names of keys, back to back: domain of keys[i] to ends[2 i], its iid on to ends[2 i + 1].  *nbytes
 * is what they take, also when `out` has no room for it: then MAPIX_E_SHAPE. */
int mapix_iid_texts(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                    uint64_t *ends, uint8_t *out, uint64_t room, uint64_t *nbytes,
                    mapix_where *where);

/* A table of names: nslots (a power of two, more than twice nsegments) words, hash tag and key + 1,
 * which the caller has zeroed.  It has the lowest key of each name; next (nsegments) leads to the next
 * higher one with the same name, UINT32_MAX when there is none.  Any seed; a secret one keeps hostile
 * files from making it slow. */
int mapix_iid_names(const mapix_map *map, const mapix_iid *iid, uint64_t seed, uint64_t *slots,
                    uint64_t nslots, uint32_t *next, mapix_where *where);

/* For each of n names (domain and iid one behind the other in `bytes`: those of i from ends[2 i - 1]
 * to ends[2 i] and on to ends[2 i + 1], ends[-1] being 0) the lowest key that has it, -1 without. */
int mapix_iid_find(const mapix_map *map, const mapix_iid *iid, uint64_t seed,
                   const uint64_t *slots, uint64_t nslots, const uint8_t *bytes,
                   const uint64_t *ends, uint64_t n, int64_t *keys, mapix_where *where);

/* Segments keys[*done, n) as COCO's run-length encodings of an image of h x w, in which they lie: as
 * text, or as u32 counts, back to back; ends[i] is where that of keys[i] ends; that of the first,
 * keys[*done], begins at 0.  Ends before one that there is no room for; *done is where to go on.  scratch
 * has room for 64 x (h + 1), rows for h and (h + 63) / 64 words, which are zeros. */
int mapix_iid_rle(const mapix_map *map, const mapix_iid *iid, const uint32_t *keys, uint64_t n,
                  uint32_t h, uint32_t w, uint32_t text, uint16_t *scratch, uint64_t *rows,
                  uint8_t *out, uint64_t room, uint64_t *ends, uint64_t *done, mapix_where *where);

/* Counts of such a text, with room for nbytes; MAPIX_E_ARGUMENT where it is none, or a count is none of
 * 32 bits. */
int mapix_rle_counts(const uint8_t *text, uint64_t nbytes, uint32_t *counts, uint64_t *n);

/* The tight box of the ones of an encoding, zeros without; MAPIX_E_ARGUMENT unless the counts add up to
 * h x w. */
int mapix_rle_box(const uint32_t *counts, uint64_t n, uint32_t h, uint32_t w, uint16_t *box);

/* The ones of an encoding of an image h pixels high, as bytes (box); MAPIX_E_ARGUMENT where one is
 * outside.  h is not 0 where there are ones. */
int mapix_rle_mask(const uint32_t *counts, uint64_t n, uint32_t h, const uint16_t *box,
                   uint8_t *mask);

/* --- boxes: a packed tree over them, in the caller's memory ---------------------------------------
 *
 * Nodes of 16 children, four rows of 16 u16 each (minr, minc, maxr, maxc), level by level from the
 * leaves on; `order` has the number of each leaf's box, along a Hilbert curve. */

/* How many nodes a tree over n boxes has. */
uint64_t mapix_tree_nodes(uint64_t n);

/* Fill in nodes (64 u16 each) and order (n); scratch is room for 2 n u64. */
int mapix_tree_build(const uint16_t *boxes, uint64_t n, uint16_t *nodes, uint32_t *order,
                     uint64_t *scratch);

/* The boxes that share a pixel with a window, to found (room for them), in the order of the tree;
 * *nfound counts all of them.  A tree that lies about itself gives other numbers below n, no harm. */
int mapix_tree_search(const uint16_t *nodes, const uint32_t *order, uint64_t n,
                      const uint16_t *window, uint32_t *found, uint64_t room, uint64_t *nfound);

/* The same for windows [*window, nwindows), until there is no room for another one's (twice as much as
 * it takes is needed); *window is where to go on.  found has all of them back to back, counts[i] of them
 * for window i, ascending. */
int mapix_tree_search_many(const uint16_t *nodes, const uint32_t *order, uint64_t n,
                           const uint16_t *windows, uint64_t nwindows, uint64_t *window,
                           uint32_t *found, uint64_t room, uint64_t *nfound, uint32_t *counts);

/* Pairs of boxes that share a pixel, a < b, each once: leaves [*leaf, ...) of the tree until there is
 * no room for another leaf's; *leaf is where to go on, n when done. */
int mapix_tree_pairs(const uint16_t *nodes, const uint32_t *order, uint64_t n, uint64_t *leaf,
                     uint32_t *a, uint32_t *b, uint64_t room, uint64_t *nfound);

/* --- JSON text: arrays of numbers -----------------------------------------------------------------
 *
 * `[1, -2.5]`, or rows of them, `[[1, 2], [3, 4]]`, each number as the float nearest to it (ties to
 * even), infinite where it is too large.  Blanks are space, tab, CR, LF. */
enum {
    MAPIX_JSON_ORIGINAL = 0, /* numbers as VisualRBM reads them: `-`, `1.`, `-.5`, `1.0e` are some; an
                                exponent needs a dot before it */
    MAPIX_JSON_ANY = 1       /* the same, and exponents without a dot: all numbers of JSON are some */
};
enum { MAPIX_JSON_BEGIN = 0, MAPIX_JSON_DONE = 1, MAPIX_JSON_END = 256 /* got: the text ends */ };

/* How far a call came.  The caller zeroes it, sets `at` to the first bracket, and calls again until
 * state is MAPIX_JSON_DONE; then `at` is behind the last bracket. */
typedef struct {
    uint64_t at;
    uint64_t nrows;     /* whole rows so far; a flat array is one row */
    uint64_t ncolumns;  /* numbers of a row: as asked, or found in the first one */
    uint64_t column;    /* numbers so far of the row at hand */
    uint64_t ninfinite; /* numbers too large for a float */
    uint32_t state;
} mapix_json_run;

/* Read an array of `depth` 1 or 2 into out, (nrows, ncolumns), which has room for them.  With out
 * null nothing is converted: it counts, nrows and ncolumns may be UINT64_MAX, any number of rows, all
 * as long as the first.  Returns once run->at >= stop_at, or at the end, or at what is wrong: then
 * where->at == run->at, where->record the row, run->column the numbers of it before.  Reads no byte
 * of the map before run->at; a number at the very end of the map is read, and then `]` is missing. */
int mapix_json_numbers(const mapix_map *map, mapix_json_run *run, uint32_t depth, uint32_t grammar,
                       float *out, uint64_t nrows, uint64_t ncolumns, uint64_t stop_at,
                       mapix_where *where);

/* Copy nbytes at `at` to `to`, under the guard.  MAPIX_E_SPAN: expected and got are byte counts. */
int mapix_copy(const mapix_map *map, uint64_t at, uint64_t nbytes, void *to, mapix_where *where);

/* CRC32C (Castagnoli) of nbytes at data, continued from `crc` (0 to begin). */
uint32_t mapix_crc32c(const void *data, uint64_t nbytes, uint32_t crc);

/* Which kernels run: 0 plain C, 1 AVX2+FMA+F16C, 2 AVX-512.  Asking for a level sets the best
 * that the machine has up to it (negative: only ask); returns the level in force.  For tests. */
int mapix_simd(int level);

/* How often the guard has caught a fault in this process, for tests and reports. */
uint64_t mapix_faults_caught(void);

/* --- order ------------------------------------------------------------------------------------*/

/* Positions begin to begin + count - 1 of the permutation of 0..n-1 that `key` names, into `to`.  The
 * same on every machine; needs no memory, whatever n.  n = 0 has no positions. */
int mapix_permute(uint64_t n, uint64_t key, uint64_t begin, uint64_t count, int64_t *to);

/* Positions of the same permutation, each in 0..n-1, replaced by what it has there. */
int mapix_permute_at(uint64_t n, uint64_t key, uint64_t count, int64_t *positions);

enum { MAPIX_NETWORK = 28 };

/* The same permutation as MAPIX_NETWORK numbers, for csrc/gpu/gather.cu. */
int mapix_permute_network(uint64_t n, uint64_t key, uint32_t *to);

/* cdef: end */

#endif
