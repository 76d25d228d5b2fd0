/* gather.cu - records of files into one batch, read by a GPU from the files' own pages.
 *
 * The files are mapped read-only and their pages are registered with CUDA, so that the device can
 * load them over the bus.  One launch copies any number of records of any number of files: it finds
 * the file of each record by bisection and the record by a stride or by a table of offsets, checks
 * that it lies within the file, converts its pixels, and writes them where the batch wants them.
 * The result equals that of mapix_vimh_gather and mapix_rows_gather, byte for byte where both have
 * the type.
 *
 * The source is C without a library.  A CUDA compiler makes a kernel of it; a C compiler makes a
 * function of it, so that tests and fuzzing reach the same lines on machines without a GPU.
 *
 * Every field of gather_job that is read from the file, or that selects bytes of it, is checked
 * here: a wrong one sets *failed and costs one batch, nothing else. */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifdef __CUDACC__
#define INLINE static __device__ __forceinline__
#define PERMUTE_INLINE INLINE
#define PRAGMA(text) _Pragma(#text)
#define UNROLL(n) PRAGMA(unroll n)
#else
#include <math.h>
#include <string.h>
#define INLINE static inline
#define UNROLL(n)
#endif
#include "../permute.h"

enum { UINT8, FLOAT32, FLOAT16, BFLOAT16 };     /* gather_job.dtype */
enum { NCHW, NHWC };                            /* gather_job.layout */
enum { PAD = 1, CROP = 2, CENTRE = 4 };         /* gather_job.fit, as in mapix.h */
enum { BAD_ROW = 1, BAD_SPAN, BAD_HEADER, BAD_SHAPE }; /* the low byte of *failed */
enum { GROUP_NBYTES = 16 };                     /* of a record, handled by one thread at once */
#define ELSEWHERE (-0x7fffffffffffffffll - 1)

/* One record of a table index: mapix_entry of mapix.h. */
typedef struct {
    u64 at_n; /* offset in the low 56 bits, number of labels above */
    u16 h, w, c, reserved;
} gather_entry;

/* One file.  The Python side has the same struct; every pointer takes 8 bytes. */
typedef struct {
    const u8 *base;    /* byte 0 as the device sees it, aligned to 16 bytes */
    u64 nbytes;        /* memory up to the next multiple of 16 can be loaded */
    const gather_entry *entries; /* nrecords of them, or null when all records are alike */
    u64 first;         /* number of the file's first record among those of all files */
    u64 nrecords;
    u64 first_at, stride;        /* of records that are alike */
    u32 head_nbytes;   /* of a record before its label count; 0: the records are bare pixels */
    u32 nlabels, record_h, record_w, record_c; /* of records that are alike */
    u32 interleaved;   /* whether a record's channels alternate; else plane follows plane */
} gather_file;

/* One launch.  The Python side has the same struct, too. */
typedef struct {
    const gather_file *files; /* in ascending order of `first`, which is 0 for the first one */
    u64 nfiles;        /* at least 1 */
    const i64 *rows;   /* record numbers, counted through all files, or null.  ELSEWHERE: the position
                        * is left as it is, since another launch writes it. */
    u64 nrows;
    /* Where order_n is not 0, the batch is a stretch of a random order of order_n records: batches of
     * order_batch positions, each order_step after the one before, the first at order_begin.  Record
     * k of the order is rows[k], or without `rows` part_first + k * part_step. */
    u64 order_n, order_begin, order_batch, order_step;
    i64 part_first, part_step;
    const permute_network *order;
    void *images;      /* nrows canvases of h * w * c elements, one after another */
    const float *affine; /* pairs (a, b) per channel; a float is fma(byte, a, b) */
    const u8 *side;    /* a table in device memory, side_nbytes per record, or null */
    u8 *side_out;      /* its rows in the order of `rows` */
    u64 side_nbytes;
    u64 *failed;       /* position in rows << 8 | reason of a record that was refused; else as it was */
    u32 h, w, c;       /* of the canvas */
    u32 layout, dtype, fit;
    u32 swap;          /* 1: bytes as they are; 2, 4, 8: numbers of that size, bytes reversed */
    float pad_value;
} gather_job;

/* --- memory ---------------------------------------------------------------------------------- */

typedef struct {
    u64 low, high;
} pair;

#ifdef __CUDACC__
INLINE pair load_pair(const u8 *p) {
    const ulonglong2 v = __ldg((const ulonglong2 *)p);
    const pair found = {v.x, v.y};
    return found;
}
INLINE void store_pair(u8 *p, u64 low, u64 high) {
    *(ulonglong2 *)p = make_ulonglong2(low, high);
}
INLINE u32 float_bits(float x) { return __float_as_uint(x); }
INLINE u32 half_bits(float x) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
#else
INLINE pair load_pair(const u8 *p) {
    pair found;
    memcpy(&found, __builtin_assume_aligned(p, 16), sizeof found);
    return found;
}
INLINE void store_pair(u8 *p, u64 low, u64 high) {
    const pair both = {low, high};
    memcpy(__builtin_assume_aligned(p, 16), &both, sizeof both);
}
INLINE u32 float_bits(float x) {
    u32 bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
/* The nearest float16, ties to even. */
INLINE u32 half_bits(float x) {
    const u32 bits = float_bits(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size >= 0x7f800000) { /* infinite, or not a number */
        return sign | 0x7c00 | (size > 0x7f800000 ? 0x200 : 0);
    }
    if (size >= 0x477ff000) { /* 65520 and more round to infinity */
        return sign | 0x7c00;
    }
    if (size >= 0x38800000) { /* normal: 13 bits go, and the exponent's bias falls by 112 */
        return sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    }
    if (size < 0x33000000) { /* less than half of the smallest number */
        return sign;
    }
    const u32 drop = 126 - (size >> 23), digits = (size & 0x7fffff) | 0x800000;
    const u32 kept = digits >> drop, rest = digits & ((1u << drop) - 1), middle = 1u << (drop - 1);
    return sign | (kept + (rest > middle || (rest == middle && (kept & 1))));
}
#endif

/* n (1 to 16) bytes of a file from `at` on, by loads of aligned words: the bus moves those whole.
 * Bytes after the n-th have no meaning.  at + n is at most nbytes. */
INLINE pair load_bytes(const u8 *base, u64 at, u32 n) {
    const u8 *p = base + (at & ~15ull);
    const u32 shift = (u32)(at & 15);
    const pair one = load_pair(p);
    pair two = {0, 0};
    if (shift + n > GROUP_NBYTES) {
        two = load_pair(p + 16);
    }
    const u64 a = shift & 8 ? one.high : one.low;
    const u64 b = shift & 8 ? two.low : one.high;
    const u64 c = shift & 8 ? two.high : two.low;
    const u32 bits = (shift & 7) * 8;
    /* two shifts: one by 64 has no defined result */
    const pair found = {a >> bits | (b << 1) << (63 - bits), b >> bits | (c << 1) << (63 - bits)};
    return found;
}

/* The bytes of each number in reverse order; size is 1, 2, 4 or 8. */
INLINE u64 reversed(u64 v, u32 size) {
    if (size >= 2) {
        v = (v & 0x00ff00ff00ff00ffull) << 8 | (v >> 8 & 0x00ff00ff00ff00ffull);
    }
    if (size >= 4) {
        v = (v & 0x0000ffff0000ffffull) << 16 | (v >> 16 & 0x0000ffff0000ffffull);
    }
    if (size == 8) {
        v = v << 32 | v >> 32;
    }
    return v;
}

/* --- numbers --------------------------------------------------------------------------------- */

/* The nearest bfloat16, ties to even. */
INLINE u32 bfloat_bits(float x) {
    const u32 bits = float_bits(x);
    if ((bits & 0x7fffffff) > 0x7f800000) {
        return bits >> 16 | 0x40;
    }
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

/* The bits of a byte as an element of the output; `affine` begins with channel 0. */
INLINE u32 encoded(u32 dtype, u32 byte, const float *affine, u32 channel) {
    if (dtype == UINT8) {
        return byte;
    }
    const float value = fmaf((float)byte, affine[2 * channel], affine[2 * channel + 1]);
    return dtype == FLOAT32 ? float_bits(value)
           : dtype == FLOAT16 ? half_bits(value) : bfloat_bits(value);
}

INLINE void put(u32 dtype, u8 *canvas, u64 element, u32 bits) {
    if (dtype == UINT8) {
        canvas[element] = (u8)bits;
    } else if (dtype == FLOAT32) {
        ((u32 *)canvas)[element] = bits;
    } else {
        ((u16 *)canvas)[element] = (u16)bits;
    }
}

INLINE u32 item_nbytes(u32 dtype) { return dtype == UINT8 ? 1 : dtype == FLOAT32 ? 4 : 2; }

/* --- one record ------------------------------------------------------------------------------ */

typedef struct {
    const u8 *base; /* of its file */
    u64 at;        /* of its first pixel */
    u64 head_at;   /* of its header */
    u32 h, w, c, n;
    u32 head_nbytes, interleaved;
} record;

INLINE u64 smaller(u64 a, u64 b) { return a < b ? a : b; }

/* The record number at a position of the batch, counted through all files. */
INLINE i64 asked_for(const gather_job *job, u64 position) {
    if (!job->order_n) {
        return job->rows[position];
    }
    u64 k = job->order_begin + position / job->order_batch * job->order_step +
            position % job->order_batch;
    if (k >= job->order_n) {
        return -1; /* refused as any row out of range */
    }
    do {
        k = permute_step(job->order, k);
    } while (k >= job->order_n);
    return job->rows ? job->rows[k] : job->part_first + (i64)k * job->part_step;
}

/* The last file that begins at or before a record. */
INLINE const gather_file *file_of(const gather_job *job, u64 row) {
    const gather_file *found = job->files;
    for (u64 n = job->nfiles; n > 1;) {
        const u64 half = n / 2;
        if (found[half].first <= row) {
            found += half;
        }
        n -= half;
    }
    return found;
}

/* Find a record of all files, within its file; a reason to refuse it, or 0. */
INLINE u32 find(const gather_job *job, i64 asked, record *found) {
    const gather_file *file = file_of(job, (u64)asked);
    const u64 row = (u64)asked - file->first, nbytes = file->nbytes;
    if (row >= file->nrecords) { /* negative numbers are very large ones */
        return BAD_ROW;
    }
    if (file->entries) {
        const gather_entry e = file->entries[row];
        found->head_at = e.at_n & 0xffffffffffffffull;
        found->n = (u32)(e.at_n >> 56);
        found->h = e.h;
        found->w = e.w;
        found->c = e.c;
    } else {
        if (file->stride && row > (nbytes - smaller(file->first_at, nbytes)) / file->stride) {
            return BAD_SPAN; /* and the product below could be too large for 64 bits */
        }
        found->head_at = file->first_at + row * file->stride;
        found->n = file->nlabels;
        found->h = file->record_h;
        found->w = file->record_w;
        found->c = file->record_c;
    }
    found->head_nbytes = file->head_nbytes;
    const u64 before = found->head_nbytes ? found->head_nbytes + 1ull + 2ull * found->n : 0;
    const u64 lines = (u64)found->h * found->w; /* h, w and c are below 2^32, but not their product */
    if (found->c && lines > nbytes / found->c) {
        return BAD_SPAN;
    }
    const u64 size = before + lines * found->c;
    if (found->head_at > nbytes || size > nbytes - found->head_at) {
        return BAD_SPAN;
    }
    found->at = found->head_at + before;
    found->base = file->base;
    found->interleaved = file->interleaved && found->c > 1;
    return 0;
}

/* Whether the file's own header is the one that the index has. */
INLINE int confirmed(const record *r) {
    if (!r->head_nbytes) {
        return 1;
    }
    const pair head = load_bytes(r->base, r->head_at, 6);
    const u64 expected = (u64)r->h | (u64)r->w << 16 | (u64)r->c << 32;
    return (head.low & 0xffffffffffffull) == expected && r->base[r->head_at + r->head_nbytes] == r->n;
}

INLINE int fits(const gather_job *job, const record *r) {
    const int larger = r->h > job->h || r->w > job->w;
    const int narrower = r->h < job->h || r->w < job->w;
    return r->c <= job->c && (r->c == job->c || (job->fit & PAD)) &&
           (!larger || (job->fit & CROP)) && (!narrower || (job->fit & PAD));
}

/* How the pixels of one line of a record lie on the canvas: nchannels values per pixel (1 where
 * planes follow one another), col_step elements from pixel to pixel, channel_step from value to
 * value.  `affine` belongs to the first channel. */
typedef struct {
    u32 nchannels;
    u64 col_step, channel_step;
    const float *affine;
} placing;

/* Convert n bytes that follow one another in a line and begin with channel `channel` of a pixel, and
 * put them on the canvas from `element` on, four at a time. */
INLINE void put_group(const gather_job *job, u8 *canvas, u64 element, const placing *to, pair bytes,
                      u32 n, u32 channel) {
    if (job->swap > 1) {
        bytes.low = reversed(bytes.low, job->swap);
        bytes.high = reversed(bytes.high, job->swap);
    }
    const u32 item = item_nbytes(job->dtype);
    u8 *first = canvas + element * item;
    const int follow = to->nchannels == 1 ? to->col_step == 1
                                          : to->channel_step == 1 && to->col_step == to->nchannels;
    const int wide = follow && n == GROUP_NBYTES && !((u64)first & 15);
    if (wide && job->dtype == UINT8) {
        store_pair(first, bytes.low, bytes.high);
        return;
    }
    UNROLL(1)
    for (u32 begin = 0; begin < n; begin += 4) {
        u32 four = (u32)((begin & 8 ? bytes.high : bytes.low) >> (begin & 4) * 8);
        u32 bits[4];
        u64 at[4];
        UNROLL(4)
        for (u32 i = 0; i < 4; i++) {
            bits[i] = encoded(job->dtype, four & 255, to->affine, channel);
            at[i] = element;
            four >>= 8;
            element += to->channel_step;
            if (++channel == to->nchannels) {
                channel = 0;
                element += to->col_step - to->nchannels * to->channel_step;
            }
        }
        if (wide && job->dtype == FLOAT32) {
            store_pair(first + begin * 4, bits[0] | (u64)bits[1] << 32, bits[2] | (u64)bits[3] << 32);
        } else if (wide) {
            *(u64 *)(first + begin * 2) =
                bits[0] | bits[1] << 16 | (u64)(bits[2] | bits[3] << 16) << 32;
        } else {
            UNROLL(4)
            for (u32 i = 0; i < 4; i++) {
                if (begin + i < n) {
                    put(job->dtype, canvas, at[i], bits[i]);
                }
            }
        }
    }
}

/* The elements of the canvas that the record does not cover. */
INLINE void put_padding(const gather_job *job, u8 *canvas, const record *r, u64 thread, u64 nthreads) {
    const u64 nelements = (u64)job->h * job->w * job->c;
    const float v = job->pad_value;
    u32 bits = v >= 255.0f ? 255 : v > 0.0f ? (u32)v : 0; /* not a number is 0 */
    if (job->dtype != UINT8) {
        bits = job->dtype == FLOAT32 ? float_bits(v)
               : job->dtype == FLOAT16 ? half_bits(v) : bfloat_bits(v);
    }
    for (u64 e = thread; e < nelements; e += nthreads) {
        u64 x, y, channel;
        if (job->layout == NHWC) {
            channel = e % job->c;
            x = e / job->c % job->w;
            y = e / job->c / job->w;
        } else {
            x = e % job->w;
            y = e / job->w % job->h;
            channel = e / job->w / job->h;
        }
        if (y >= r->h || x >= r->w || channel >= r->c) {
            put(job->dtype, canvas, e, bits);
        }
    }
}

/* One record's image: groups of its lines are dealt out to the threads. */
INLINE void put_image(const gather_job *job, u8 *canvas, const record *r, u64 thread, u64 nthreads) {
    const int exact = r->h == job->h && r->w == job->w && r->c == job->c;
    const int same_order = r->c == 1 ? job->c == 1 : (int)r->interleaved == (job->layout == NHWC);
    const u64 to_col = job->layout == NHWC ? job->c : 1;
    const u64 to_row = job->w * to_col;
    const u64 to_channel = job->layout == NHWC ? 1 : (u64)job->h * job->w;
    placing to = {1, to_col, to_channel, job->affine};
    u64 nplanes = 1, nrows, length; /* lines of `length` bytes each */
    u64 from_row, from_plane = 0, skip = 0;
    if (exact && same_order && job->dtype == UINT8) { /* the bytes as they are: one line */
        nrows = 1;
        length = (u64)r->h * r->w * r->c;
        from_row = length;
        to.col_step = 1;
    } else {
        const u64 over_y = r->h > job->h ? r->h - job->h : 0;
        const u64 over_x = r->w > job->w ? r->w - job->w : 0;
        const u64 pixel = r->interleaved ? r->c : 1;
        from_row = r->w * pixel;
        from_plane = (u64)r->h * r->w;
        if (job->fit & CENTRE) {
            skip = over_y / 2 * from_row + over_x / 2 * pixel;
        }
        nrows = r->h - over_y;
        u64 ncols = r->w - over_x;
        if (ncols == r->w && ncols == job->w) { /* lines follow one another on both sides */
            ncols *= nrows;
            nrows = 1;
        }
        length = ncols * pixel;
        to.nchannels = (u32)pixel;
        nplanes = r->interleaved ? 1 : r->c;
    }
    const u64 ngroups = (length + GROUP_NBYTES - 1) / GROUP_NBYTES;
    for (u64 k = thread; k < nplanes * nrows * ngroups; k += nthreads) {
        const u64 begin = k % ngroups * GROUP_NBYTES, line = k / ngroups;
        const u64 y = line % nrows, plane = line / nrows;
        const u32 n = (u32)smaller(length - begin, GROUP_NBYTES);
        const u64 from = r->at + skip + plane * from_plane + y * from_row + begin;
        const u32 channel = (u32)(begin % to.nchannels);
        to.affine = job->affine ? job->affine + 2 * plane : job->affine;
        put_group(job, canvas,
                  plane * to_channel + y * to_row + begin / to.nchannels * to.col_step +
                      channel * to_channel,
                  &to, load_bytes(r->base, from, n), n, channel);
    }
}

/* --- one thread of a launch ------------------------------------------------------------------- */

/* The share of `thread` of `nthreads` in the record at a position of rows. */
INLINE void gather_share(const gather_job *job, u64 position, u64 thread, u64 nthreads) {
    record r;
    const i64 row = asked_for(job, position);
    if (row == ELSEWHERE) {
        return;
    }
    u32 reason = find(job, row, &r);
    if (!reason && !fits(job, &r)) {
        reason = BAD_SHAPE;
    }
    if (!reason && thread == 0 && !confirmed(&r)) {
        *job->failed = position << 8 | BAD_HEADER; /* the others go on: the batch is refused anyway */
    }
    if (reason) {
        if (thread == 0) {
            *job->failed = position << 8 | reason;
        }
        return;
    }
    const u64 canvas_nbytes = (u64)job->h * job->w * job->c * item_nbytes(job->dtype);
    u8 *canvas = (u8 *)job->images + position * canvas_nbytes;
    if (r.h < job->h || r.w < job->w || r.c < job->c) {
        put_padding(job, canvas, &r, thread, nthreads);
    }
    put_image(job, canvas, &r, thread, nthreads);
    for (u64 i = thread; i < job->side_nbytes; i += nthreads) {
        job->side_out[position * job->side_nbytes + i] = job->side[(u64)row * job->side_nbytes + i];
    }
}

#ifdef __CUDACC__
/* gridDim.x blocks share one record; gridDim.y positions are taken in turn. */
extern "C" __global__ void mapix_gather(const gather_job job) {
    for (u64 position = blockIdx.y; position < job.nrows; position += gridDim.y) {
        gather_share(&job, position, (u64)blockIdx.x * blockDim.x + threadIdx.x,
                     (u64)gridDim.x * blockDim.x);
    }
}
#else
/* The same launch on a CPU, thread after thread. */
void mapix_gather(const gather_job *job, u64 nthreads) {
    for (u64 position = 0; position < job->nrows; position++) {
        for (u64 thread = 0; thread < nthreads; thread++) {
            gather_share(job, position, thread, nthreads);
        }
    }
}
u64 mapix_gather_job_nbytes(void) { return sizeof(gather_job); }
u64 mapix_gather_file_nbytes(void) { return sizeof(gather_file); }
#endif
