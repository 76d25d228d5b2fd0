/* pack.c - pack(): one image and its labels as the bytes of a record; pack_flat() and interleaved(): many images of
 * any sizes.
 *
 * packing.py, layout.py and conversion.py in src/mapix/vimh do the same in Python, and whatever is not plain here:
 * other types, values that are clipped, labels that are missing, and all errors. */
#include "record.h"

#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#include <numpy/arrayobject.h>

#include <float.h>
#include <math.h>

enum { HEADS, IMAGE, LABELS, CODES, SPEC, HEAD_NBYTES, NARGS };
enum { NAME, ID, LOW, HIGH, DIRECT, NFIELDS }; /* of a parameter */
enum { NOT_PLAIN = 1, MOST_LABELS = 255, MOST_SIDE = 65535 };

/* A number of Python or numpy as double: 0, or NOT_PLAIN. */
static int number_of(PyObject *given, double *found) {
    if (!PyFloat_Check(given) && !PyLong_CheckExact(given) && !PyArray_IsScalar(given, Floating) &&
        !PyArray_IsScalar(given, Integer)) {
        return NOT_PLAIN;
    }
    *found = PyFloat_AsDouble(given);
    if (*found == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return NOT_PLAIN;
    }
    return 0;
}

/* A value in the range of its parameter as a code: truncated, as Parameter.quantise does. */
static int quantised(PyObject *head, PyObject *given, uint8_t *code) {
    double value, low, high;
    if (number_of(given, &value) || number_of(PyTuple_GetItem(head, LOW), &low) ||
        number_of(PyTuple_GetItem(head, HIGH), &high) || !(value >= low && value <= high)) {
        return NOT_PLAIN;
    }
    const double span = high - low;
    const int direct = PyTuple_GetItem(head, DIRECT) == Py_True;
    const double scaled = direct ? value - low : span != 0 ? (value - low) / span * (double)UINT8_MAX : 0;
    *code = (uint8_t)(scaled > UINT8_MAX ? UINT8_MAX : scaled);
    return 0;
}

static int code_of(PyObject *given, uint8_t *code) {
    if (!PyLong_CheckExact(given) && !PyArray_IsScalar(given, Integer)) {
        return NOT_PLAIN;
    }
    const long found = PyLong_AsLong(given);
    if (found < 0 || found > UINT8_MAX) {
        PyErr_Clear();
        return NOT_PLAIN;
    }
    *code = (uint8_t)found;
    return 0;
}

/* What a dict has under a name, a new reference: another thread may change the dict.  Null, perhaps with an
 * exception, without it, and without a dict. */
static PyObject *item_of(PyObject *dict, PyObject *name) {
    PyObject *found = NULL;
    if (dict != Py_None) {
        Py_BEGIN_CRITICAL_SECTION(dict);
        found = Py_XNewRef(PyDict_GetItemWithError(dict, name));
        Py_END_CRITICAL_SECTION();
    }
    return found;
}

/* Append the label of a parameter to the pairs; NOT_PLAIN unless it is given once. */
static int add_pair(PyObject *head, PyObject *value, PyObject *code, uint8_t *pairs, unsigned *npairs) {
    if (!value == !code) {
        return NOT_PLAIN;
    }
    if (value == Py_None || code == Py_None) { /* the record lacks the label */
        return 0;
    }
    if (*npairs == MOST_LABELS) {
        return NOT_PLAIN;
    }
    uint8_t *pair = pairs + 2 * (*npairs)++;
    pair[0] = (uint8_t)PyLong_AsLong(PyTuple_GetItem(head, ID));
    return value ? quantised(head, value, &pair[1]) : code_of(code, &pair[1]);
}

/* The pairs of a record, in the order of the parameters; NOT_PLAIN unless each parameter is given once. */
static int pairs_of(PyObject *heads, PyObject *labels, PyObject *codes, uint8_t *pairs, unsigned *npairs) {
    Py_ssize_t left = 0;
    for (int k = 0; k < 2; k++) {
        PyObject *given = k ? codes : labels;
        if (given != Py_None) {
            if (!PyDict_CheckExact(given)) {
                return NOT_PLAIN;
            }
            left += PyDict_Size(given);
        }
    }
    const Py_ssize_t nheads = PyTuple_Size(heads);
    *npairs = 0;
    for (Py_ssize_t k = 0; k < nheads; k++) {
        PyObject *head = PyTuple_GetItem(heads, k), *name = PyTuple_GetItem(head, NAME);
        PyObject *value = item_of(labels, name), *code = item_of(codes, name);
        const int status = add_pair(head, value, code, pairs, npairs);
        Py_XDECREF(value);
        Py_XDECREF(code);
        if (status) {
            return status;
        }
        left--;
    }
    return left ? NOT_PLAIN : 0;
}

static int spec_of(PyObject *given, float spec[2]) {
    if (!PyTuple_CheckExact(given) || PyTuple_Size(given) != 2) {
        return NOT_PLAIN;
    }
    for (int k = 0; k < 2; k++) {
        double found;
        if (number_of(PyTuple_GetItem(given, k), &found) || !(fabs(found) <= FLT_MAX)) {
            return NOT_PLAIN;
        }
        spec[k] = (float)found;
    }
    return 0;
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
/* Bytes of 16 pixels of one channel, of the k-th of three vectors with their triples; the others are zero. */
#define PLACE(k, channel, i) \
    (char)((3 * (i) + (channel)) / 16 == (k) ? (3 * (i) + (channel)) % 16 : -1)
#define PLACES_4(k, c, i) PLACE(k, c, i), PLACE(k, c, (i) + 1), PLACE(k, c, (i) + 2), PLACE(k, c, (i) + 3)
#define PICK(x, k, c)                                                                                  \
    _mm_shuffle_epi8(x, _mm_setr_epi8(PLACES_4(k, c, 0), PLACES_4(k, c, 4), PLACES_4(k, c, 8),         \
                                      PLACES_4(k, c, 12)))
#define STORE_PLANE(to, c, x, y, z)              \
    _mm_storeu_si128((__m128i *)(void *)(to),    \
                     _mm_or_si128(PICK(x, 0, c), _mm_or_si128(PICK(y, 1, c), PICK(z, 2, c))))

/* Write as many of n triples as fit vectors to planes; returns how many. */
__attribute__((target("ssse3"))) static npy_intp triples_by_16(uint8_t *to, const uint8_t *from, npy_intp n) {
    npy_intp i = 0;
    for (; i + 16 <= n; i += 16, from += 48) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)from);
        const __m128i y = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
        const __m128i z = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
        STORE_PLANE(to + i, 0, x, y, z);
        STORE_PLANE(to + n + i, 1, x, y, z);
        STORE_PLANE(to + 2 * n + i, 2, x, y, z);
    }
    return i;
}
#define TRIPLES(to, from, n) (__builtin_cpu_supports("ssse3") ? triples_by_16(to, from, n) : 0)
#else
#define TRIPLES(to, from, n) 0
#endif

/* Write n pixels of three channels as planes: pictures as most programs have them. */
static void triples_of(uint8_t *to, const uint8_t *from, npy_intp n) {
    for (npy_intp i = TRIPLES(to, from, n); i < n; i++) {
        to[i] = from[3 * i];
        to[n + i] = from[3 * i + 1];
        to[2 * n + i] = from[3 * i + 2];
    }
}

/* Copy n bytes, `step` apart, to a row. */
static void row_of(uint8_t *restrict to, const uint8_t *restrict from, npy_intp n, npy_intp step) {
    if (step == 1) {
        memcpy(to, from, (size_t)n);
        return;
    }
    for (npy_intp x = 0; x < n; x++) {
        to[x] = from[x * step];
    }
}

/* Write an image of any strides as planes. */
static void planes_of(uint8_t *to, PyArrayObject *image, const npy_intp dims[3]) {
    const npy_intp *steps = PyArray_STRIDES(image);
    const npy_intp next = PyArray_NDIM(image) == 3 ? steps[2] : 0;
    const uint8_t *from = PyArray_DATA(image);
    if (dims[2] == 3 && PyArray_IS_C_CONTIGUOUS(image)) {
        triples_of(to, from, dims[0] * dims[1]);
        return;
    }
    for (npy_intp c = 0; c < dims[2]; c++) {
        for (npy_intp y = 0; y < dims[0]; y++, to += dims[1]) {
            row_of(to, from + c * next + y * steps[0], dims[1], steps[1]);
        }
    }
}

static int dims_of(PyObject *given, npy_intp dims[3]) {
    PyArrayObject *image = (PyArrayObject *)given;
    if (!PyArray_CheckExact(given) || PyArray_TYPE(image) != NPY_UINT8 || PyArray_NDIM(image) < 2 ||
        PyArray_NDIM(image) > 3) {
        return NOT_PLAIN;
    }
    dims[2] = 1;
    for (int k = 0; k < PyArray_NDIM(image); k++) {
        dims[k] = PyArray_DIM(image, k);
        if (dims[k] < 1 || dims[k] > MOST_SIDE) {
            return NOT_PLAIN;
        }
    }
    return 0;
}

static void put_u16(uint8_t *to, npy_intp number) {
    to[0] = (uint8_t)(number & 0xFF);
    to[1] = (uint8_t)(number >> 8);
}

/* pack(heads, image, labels, codes, spec_range, head_nbytes) -> (bytes, (h, w, c)), or None where Packer has to
 * do it.  heads: (name, id, min, max, direct) of each parameter. */
static PyObject *pack(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != NARGS || !PyTuple_Check(args[HEADS])) {
        PyErr_SetString(PyExc_TypeError, "pack: see packing.py");
        return NULL;
    }
    const long head_nbytes = PyLong_AsLong(args[HEAD_NBYTES]);
    npy_intp dims[3];
    uint8_t pairs[2 * MOST_LABELS];
    unsigned npairs;
    float spec[2] = {0, 0};
    if (dims_of(args[IMAGE], dims) || pairs_of(args[HEADS], args[LABELS], args[CODES], pairs, &npairs) ||
        spec_of(args[SPEC], spec) || PyErr_Occurred()) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    const size_t before = (size_t)head_nbytes + 1 + 2 * (size_t)npairs;
    const npy_intp npixels = dims[0] * dims[1] * dims[2];
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)before + npixels);
    uint8_t *to = made ? (uint8_t *)PyBytes_AsString(made) : NULL;
    if (!to) {
        return NULL;
    }
    for (int k = 0; k < 3; k++) {
        put_u16(to + 2 * k, dims[k]);
    }
    if (head_nbytes == 14) {
        memcpy(to + 6, spec, sizeof spec);
    }
    to[head_nbytes] = (uint8_t)npairs;
    memcpy(to + head_nbytes + 1, pairs, 2 * (size_t)npairs);
    planes_of(to + before, (PyArrayObject *)args[IMAGE], dims);
    return Py_BuildValue("N(nnn)", made, dims[0], dims[1], dims[2]);
}

/* The data of a contiguous array of a type, with ndim dimensions; null otherwise. */
static void *data_of(PyObject *given, int type, int ndim) {
    PyArrayObject *a = (PyArrayObject *)given;
    const int fits = PyArray_Check(given) && PyArray_TYPE(a) == type && PyArray_NDIM(a) == ndim &&
                     PyArray_ISCARRAY_RO(a);
    return fits ? PyArray_DATA(a) : NULL;
}

static int has_dims(PyObject *array, npy_intp n, npy_intp m) {
    PyArrayObject *a = (PyArrayObject *)array;
    return PyArray_DIM(a, 0) == n && PyArray_DIM(a, 1) == m;
}

/* A table as it is now, or null with an exception.  Without the GIL it is a copy: what was counted has to stay. */
static PyObject *fixed(PyObject *array) {
    return WITHOUT_GIL ? PyArray_NewCopy((PyArrayObject *)array, NPY_CORDER) : Py_NewRef(array);
}

static uint64_t npixels_of(const uint16_t *shape) {
    return pixels(shape[0], shape[1], shape[2]);
}

/* Whether n shapes are those of images of `nbytes` together. */
static int shapes_fit(const uint16_t *shapes, npy_intp n, npy_intp nbytes) {
    uint64_t left = (uint64_t)nbytes;
    for (npy_intp i = 0; i < n; i++) {
        const uint64_t size = npixels_of(shapes + 3 * i);
        if (size > left) {
            return 0;
        }
        left -= size;
    }
    return left == 0;
}

typedef struct {
    const uint8_t *pixels, *ids, *codes, *present;
    const uint16_t *shapes;
    const float *spec; /* null: headers of 6 bytes */
    npy_intp n, nheads;
} records;

static unsigned nlabels_of(const records *r, npy_intp i) {
    unsigned found = 0;
    for (npy_intp k = 0; k < r->nheads; k++) {
        found += r->present[i * r->nheads + k] != 0;
    }
    return found;
}

static void write_records(const records *r, uint8_t *to) {
    const uint8_t *from = r->pixels;
    const int head_nbytes = r->spec ? 14 : 6;
    for (npy_intp i = 0; i < r->n; i++) {
        const uint16_t *shape = r->shapes + 3 * i;
        const size_t size = (size_t)npixels_of(shape);
        for (int k = 0; k < 3; k++) {
            put_u16(to + 2 * k, shape[k]);
        }
        if (r->spec) {
            memcpy(to + 6, r->spec + 2 * i, 2 * sizeof *r->spec);
        }
        uint8_t *count = to + head_nbytes, *pair = count + 1;
        for (npy_intp k = 0, at = i * r->nheads; k < r->nheads; k++, at++) {
            if (r->present[at]) {
                *pair++ = r->ids[k];
                *pair++ = r->codes[at];
            }
        }
        *count = (uint8_t)((pair - count - 1) / 2);
        memcpy(pair, from, size);
        to = pair + size;
        from += size;
    }
}

enum { FLAT_PIXELS, FLAT_SHAPES, FLAT_IDS, FLAT_CODES, FLAT_PRESENT, FLAT_SPEC, NFLAT };

/* The records of arrays, of which nothing but shapes and presence has to stay as it is. */
static PyObject *packed(PyObject *const *args) {
    const int with_spec = args[FLAT_SPEC] != Py_None;
    records r = {
        .pixels = data_of(args[FLAT_PIXELS], NPY_UINT8, 1),
        .shapes = data_of(args[FLAT_SHAPES], NPY_UINT16, 2),
        .ids = data_of(args[FLAT_IDS], NPY_UINT8, 1),
        .codes = data_of(args[FLAT_CODES], NPY_UINT8, 2),
        .present = data_of(args[FLAT_PRESENT], NPY_BOOL, 2),
        .spec = with_spec ? data_of(args[FLAT_SPEC], NPY_FLOAT, 2) : NULL,
    };
    if (!r.pixels || !r.shapes || !r.ids || !r.codes || !r.present || (with_spec && !r.spec)) {
        Py_RETURN_NONE;
    }
    r.n = PyArray_DIM((PyArrayObject *)args[FLAT_SHAPES], 0);
    r.nheads = PyArray_DIM((PyArrayObject *)args[FLAT_IDS], 0);
    npy_intp total = PyArray_DIM((PyArrayObject *)args[FLAT_PIXELS], 0);
    if (!has_dims(args[FLAT_SHAPES], r.n, 3) || !has_dims(args[FLAT_CODES], r.n, r.nheads) ||
        !has_dims(args[FLAT_PRESENT], r.n, r.nheads) || !shapes_fit(r.shapes, r.n, total) ||
        (with_spec && !has_dims(args[FLAT_SPEC], r.n, 2))) {
        Py_RETURN_NONE;
    }
    for (npy_intp i = 0; i < r.n; i++) {
        const unsigned nlabels = nlabels_of(&r, i);
        if (nlabels > MOST_LABELS) {
            Py_RETURN_NONE;
        }
        total += (with_spec ? 15 : 7) + 2 * (npy_intp)nlabels;
    }
    PyObject *made = PyArray_SimpleNew(1, &total, NPY_UINT8);
    if (made) {
        write_records(&r, PyArray_DATA((PyArrayObject *)made));
    }
    return made;
}

/* pack_flat(pixels, shapes, ids, codes, present, spec_range) -> uint8 array, or None where layout.pack_flat has to
 * do it.  See there. */
static PyObject *pack_flat(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != NFLAT) {
        PyErr_SetString(PyExc_TypeError, "pack_flat: see layout.py");
        return NULL;
    }
    PyObject *given[NFLAT];
    memcpy(given, args, sizeof given);
    if (!PyArray_Check(given[FLAT_SHAPES]) || !PyArray_Check(given[FLAT_PRESENT])) {
        Py_RETURN_NONE;
    }
    given[FLAT_SHAPES] = fixed(given[FLAT_SHAPES]);
    given[FLAT_PRESENT] = fixed(given[FLAT_PRESENT]);
    PyObject *made = given[FLAT_SHAPES] && given[FLAT_PRESENT] ? packed(given) : NULL;
    Py_XDECREF(given[FLAT_SHAPES]);
    Py_XDECREF(given[FLAT_PRESENT]);
    return made;
}

/* Write n pixels of planes as they are shown: (n, c). */
static void pixels_of(uint8_t *restrict to, const uint8_t *restrict from, size_t n, unsigned c) {
    if (c == 1) {
        memcpy(to, from, n);
    } else if (c == 3) { /* most are pictures */
        for (size_t i = 0; i < n; i++) {
            to[3 * i] = from[i];
            to[3 * i + 1] = from[n + i];
            to[3 * i + 2] = from[2 * n + i];
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            for (size_t k = 0; k < c; k++) {
                to[i * c + k] = from[k * n + i];
            }
        }
    }
}

/* Planar images back to back as (h, w, c) each, or None. */
static PyObject *turned(PyObject *planes, PyObject *shapes) {
    const uint8_t *from = data_of(planes, NPY_UINT8, 1);
    const uint16_t *shape = from ? data_of(shapes, NPY_UINT16, 2) : NULL;
    if (!from || !shape) {
        Py_RETURN_NONE;
    }
    const npy_intp n = PyArray_DIM((PyArrayObject *)shapes, 0);
    npy_intp total = PyArray_DIM((PyArrayObject *)planes, 0);
    if (!has_dims(shapes, n, 3) || !shapes_fit(shape, n, total)) {
        Py_RETURN_NONE;
    }
    PyObject *made = PyArray_SimpleNew(1, &total, NPY_UINT8);
    uint8_t *to = made ? PyArray_DATA((PyArrayObject *)made) : NULL;
    for (npy_intp i = 0; to && i < n; i++, shape += 3) {
        const size_t size = (size_t)npixels_of(shape);
        pixels_of(to, from, shape[2] ? size / shape[2] : 0, shape[2]);
        to += size;
        from += size;
    }
    return made;
}

/* interleaved(pixels, shapes) -> uint8 array: planar images back to back become (h, w, c) each; or None. */
static PyObject *interleaved(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    PyObject *shapes = nargs == 2 && PyArray_Check(args[1]) ? fixed(args[1]) : Py_NewRef(Py_None);
    PyObject *made = !shapes ? NULL : shapes == Py_None ? Py_NewRef(Py_None) : turned(args[0], shapes);
    Py_XDECREF(shapes);
    return made;
}

static PyMethodDef pack_flat_def = {"pack_flat", (PyCFunction)(void (*)(void))pack_flat, METH_FASTCALL,
                                    "Records of any sizes as the bytes of a file, or None."};

static PyMethodDef interleaved_def = {"interleaved", (PyCFunction)(void (*)(void))interleaved, METH_FASTCALL,
                                      "Planar images back to back as (h, w, c) each, or None."};

static PyMethodDef pack_def = {"pack", (PyCFunction)(void (*)(void))pack, METH_FASTCALL,
                               "An image and its labels as the bytes of a record, or None."};

int mapix_add_pack(PyObject *module) {
    import_array1(-1);
    return mapix_add_function(module, &pack_def) || mapix_add_function(module, &pack_flat_def) ||
                   mapix_add_function(module, &interleaved_def)
               ? -1
               : 0;
}
