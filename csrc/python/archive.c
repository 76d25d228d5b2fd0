/* archive.c - SegmentFile and Segment: names, boxes, masks and hits of one segment or window, by one call each.
 *
 * Base classes of those in src/mapix/iid; segment_fallback.py there has the same in Python.  Whatever is rare or
 * goes wrong is handed to a method of the subclass that begins with an underscore (`_head`, `_name`, ...): it
 * computes the same by mapix._native, and raises.
 *
 * What may be trusted: the file is read by functions of mapix._core alone, whose addresses are given to `_attach`;
 * they guard and check.  Tables (heads, names, the tree) are private memory, and are held.
 */
#include "record.h"

#include <limits.h>
#include <stdlib.h>
#include <structmember.h>

#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#include <numpy/arrayobject.h>

enum {
    MOST_NAME = 512,   /* bytes of a name, */
    MOST_MASK = 16384, /* pixels of a mask, */
    MOST_HITS = 2048,  /* and twice the candidates of a window, that are handled here */
    NAMES_AHEAD = 16   /* objects of Python that are asked for ahead */
};

typedef struct {
    __typeof__(mapix_iid_columns) *columns;
    __typeof__(mapix_iid_texts) *texts;
    __typeof__(mapix_iid_own_mask) *own_mask;
    __typeof__(mapix_iid_find) *find;
    __typeof__(mapix_iid_hits) *hits;
    __typeof__(mapix_name_hashes) *hashes;
} functions;

enum { NFUNCTIONS = 6 };

typedef struct {
    PyObject_HEAD
    PyObject *source;     /* its `_mapping` is None once it is closed */
    PyObject *cmap;       /* owns `map`; another one after a harmless change of the file */
    const mapix_map *map;
    int changed;          /* the file has changed, perhaps harmlessly: `_point` is to renew the map */
    mapix_iid iid;
    functions call;
    PyObject *heads; /* owns the next two, which are null until all heads were read */
    const uint16_t *boxes;
    const uint32_t *areas;
    PyObject *names; /* owns slots and chain */
    const uint64_t *slots;
    const uint32_t *chain;
    uint64_t nslots, seed;
    PyObject *tree; /* owns parts */
    const mapix_parts *parts;
} segments_object;

typedef struct {
    PyObject_HEAD
    segments_object *file;
    uint32_t key, row;
} segment_object;

static PyTypeObject *segments_type;
static PyObject *mapping_name;

/* --- a call ------------------------------------------------------------------------------------- */

/* What a call needs, held while the GIL is released: another thread may close the file, or renew its map. */
typedef struct {
    PyObject *mapping, *cmap, *self;
    const mapix_map *map;
    PyThreadState *thread;
} held;

/* 0, with the GIL released; -1 when there is no open file. */
static int begin(segments_object *self, held *h) {
    if (MAPIX_UNLIKELY(PEEK(self->changed))) {
        POKE(self->changed, 0);
        PyObject *done = PyObject_CallMethod((PyObject *)self, "_point", NULL);
        if (!done) { /* closed, or no memory: the subclass finds out which, and raises */
            PyErr_Clear();
            POKE(self->changed, 1);
            return -1;
        }
        Py_DECREF(done);
    }
    h->mapping = self->source ? PyObject_GetAttr(self->source, mapping_name) : NULL;
    if (!h->mapping || h->mapping == Py_None) {
        PyErr_Clear();
        Py_CLEAR(h->mapping);
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    h->cmap = Py_NewRef(self->cmap);
    h->map = self->map;
    Py_END_CRITICAL_SECTION();
    h->self = Py_NewRef((PyObject *)self);
    h->thread = PyEval_SaveThread();
    return 0;
}

static int end(held *h, int status) {
    PyEval_RestoreThread(h->thread);
    if (MAPIX_UNLIKELY(status == MAPIX_E_CHANGED)) {
        POKE(((segments_object *)h->self)->changed, 1);
    }
    Py_DECREF(h->mapping);
    Py_DECREF(h->cmap);
    Py_DECREF(h->self);
    return status;
}

/* Call a method of the subclass.  `args` is a new reference, or null with an exception. */
static PyObject *by_subclass(segments_object *self, const char *name, PyObject *args) {
    PyObject *method = args ? PyObject_GetAttrString((PyObject *)self, name) : NULL;
    PyObject *found = method ? PyObject_Call(method, args, NULL) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(args);
    return found;
}

static int row_of(const segments_object *self, PyObject *arg, uint32_t *row) {
    const unsigned long long given = PyLong_CheckExact(arg) ? PyLong_AsUnsignedLongLong(arg) : ULLONG_MAX;
    if (given >= self->iid.nsegments) {
        PyErr_Clear();
        return -1;
    }
    *row = (uint32_t)given;
    return 0;
}

static PyObject *new_array(int type, npy_intp n, const void *data, size_t nbytes) {
    PyObject *made = PyArray_SimpleNew(1, &n, type);
    if (made && nbytes) {
        memcpy(PyArray_DATA((PyArrayObject *)made), data, nbytes);
    }
    return made;
}

/* --- heads, names and masks of rows in range ---------------------------------------------------- */

static int head_of(segments_object *self, uint32_t row, uint16_t box[4], uint32_t *area) {
    const uint16_t *boxes = KNOWN(self->boxes);
    if (boxes) {
        memcpy(box, boxes + 4 * (size_t)row, 8);
        *area = self->areas[row];
        return MAPIX_OK;
    }
    held h;
    uint64_t totals[3];
    mapix_where where;
    if (begin(self, &h)) {
        return MAPIX_E_ARGUMENT;
    }
    return end(&h, self->call.columns(h.map, &self->iid, row, 1, box, area, totals, &where));
}

static PyObject *box_tuple(const uint16_t box[4]) {
    return Py_BuildValue("HHHH", box[0], box[1], box[2], box[3]);
}

static PyObject *head_slowly(segments_object *self, uint32_t row) {
    return by_subclass(self, "_head", Py_BuildValue("(I)", row));
}

static PyObject *name_of_row(segments_object *self, uint32_t row) {
    held h;
    uint8_t text[MOST_NAME];
    uint64_t ends[2], nbytes;
    mapix_where where;
    int status = MAPIX_E_ARGUMENT;
    if (!begin(self, &h)) {
        status = end(&h, self->call.texts(h.map, &self->iid, &row, 1, ends, text, sizeof text, &nbytes, &where));
    }
    if (status) {
        return by_subclass(self, "_name", Py_BuildValue("(I)", row));
    }
    return Py_BuildValue("y#y#", text, (Py_ssize_t)ends[0], text + ends[0], (Py_ssize_t)(ends[1] - ends[0]));
}

static PyObject *mask_of_row(segments_object *self, uint32_t row) {
    held h;
    uint8_t pixels[MOST_MASK];
    uint16_t box[4];
    mapix_where where;
    int status = MAPIX_E_ARGUMENT;
    if (!begin(self, &h)) {
        status = end(&h, self->call.own_mask(h.map, &self->iid, row, box, pixels, sizeof pixels, &where));
    }
    if (status) {
        return by_subclass(self, "_own_mask", Py_BuildValue("(I)", row));
    }
    const npy_intp shape[2] = {box[2] - box[0], box[3] - box[1]};
    PyObject *made = PyArray_SimpleNew(2, (npy_intp *)(uintptr_t)shape, NPY_BOOL);
    if (made) {
        memcpy(PyArray_DATA((PyArrayObject *)made), pixels, (size_t)(shape[0] * shape[1]));
    }
    return made;
}

static PyObject *segments_head(segments_object *self, PyObject *arg) {
    uint16_t box[4];
    uint32_t row, area;
    if (row_of(self, arg, &row)) {
        return by_subclass(self, "_head", PyTuple_Pack(1, arg));
    }
    const int status = head_of(self, row, box, &area);
    return status ? head_slowly(self, row)
                  : Py_BuildValue("(HHHH)I", box[0], box[1], box[2], box[3], area);
}

static PyObject *segments_name(segments_object *self, PyObject *arg) {
    uint32_t row;
    return row_of(self, arg, &row) ? by_subclass(self, "_name", PyTuple_Pack(1, arg))
                                   : name_of_row(self, row);
}

static PyObject *segments_own_mask(segments_object *self, PyObject *arg) {
    uint32_t row;
    return row_of(self, arg, &row) ? by_subclass(self, "_own_mask", PyTuple_Pack(1, arg))
                                   : mask_of_row(self, row);
}

/* --- keys by name ------------------------------------------------------------------------------- */

/* The bytes of text or bytes; null, without an exception, for anything else. */
static const char *text_of(PyObject *text, Py_ssize_t *nbytes) {
    char *bytes;
    if (PyBytes_CheckExact(text)) {
        return PyBytes_AsStringAndSize(text, &bytes, nbytes) ? NULL : bytes;
    }
    if (!PyUnicode_CheckExact(text)) {
        return NULL;
    }
    const char *found = PyUnicode_AsUTF8AndSize(text, nbytes);
    if (!found) {
        PyErr_Clear(); /* the subclass raises it again */
    }
    return found;
}

static PyObject *keys_named(segments_object *self, int64_t key) {
    uint32_t keys[64];
    npy_intp n = 0;
    while (key >= 0 && n < 64) {
        keys[n++] = (uint32_t)key;
        const uint32_t next = self->chain[key];
        key = next < self->iid.nsegments ? (int64_t)next : -1;
    }
    return key >= 0 ? NULL : new_array(NPY_UINT32, n, keys, (size_t)n * sizeof *keys);
}

/* find(domain, iid): all keys of a name. */
static PyObject *segments_find(segments_object *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 2) {
        return PyErr_Format(PyExc_TypeError, "find takes a domain and an iid, got %zd arguments", nargs);
    }
    Py_ssize_t ndomain, niid;
    const char *first = text_of(args[0], &ndomain), *second = first ? text_of(args[1], &niid) : NULL;
    int status = MAPIX_E_ARGUMENT;
    int64_t key = -1;
    if (second && KNOWN(self->slots) && ndomain <= MOST_NAME && niid <= MOST_NAME - ndomain) {
        uint8_t bytes[MOST_NAME];
        const uint64_t ends[2] = {(uint64_t)ndomain, (uint64_t)(ndomain + niid)};
        uint64_t hash;
        mapix_where where;
        held h;
        memcpy(bytes, first, (size_t)ndomain);
        memcpy(bytes + ndomain, second, (size_t)niid);
        /* Two cache misses, under way while the GIL is released, and taken again. */
        if (self->call.hashes(bytes, ends, 1, MAPIX_NAME, self->seed, &hash) == MAPIX_OK) {
            MAPIX_PREFETCH(self->slots, (hash & (self->nslots - 1)) * sizeof *self->slots);
        }
        if (!begin(self, &h)) {
            status = self->call.find(h.map, &self->iid, self->seed, self->slots, self->nslots, bytes, ends, 1,
                                     &key, &where);
            if (!status && key >= 0) {
                MAPIX_PREFETCH(self->chain, (uint64_t)key * sizeof *self->chain);
            }
            status = end(&h, status);
        }
    }
    PyObject *found = status ? NULL : keys_named(self, key);
    return found || PyErr_Occurred() ? found
                                     : by_subclass(self, "_find", PyTuple_Pack(2, args[0], args[1]));
}

static PyObject *item_of(PyObject *names, Py_ssize_t i) {
    return PyList_CheckExact(names) ? PyList_GetItem(names, i) : PyTuple_GetItem(names, i);
}

/* The names of a list or tuple, as they are now; null, perhaps with an exception, for anything else. */
static PyObject *fixed_names(PyObject *names) {
    if (WITHOUT_GIL && PyList_CheckExact(names)) {
        return PyList_AsTuple(names);
    }
    return PyList_CheckExact(names) || PyTuple_CheckExact(names) ? Py_NewRef(names) : NULL;
}

/* Put domain and name, for each name, into one piece of memory: their number, or -1 if they are not all text or bytes,
 * or there is no memory.  The caller frees *bytes and *ends. */
static Py_ssize_t packed(PyObject *domain, PyObject *names, uint8_t **bytes, uint64_t **ends) {
    Py_ssize_t ndomain, nbytes, total = 1, n = PyObject_Size(names);
    const char *first = text_of(domain, &ndomain);
    *ends = first ? malloc((size_t)(n ? n : 1) * 2 * sizeof **ends) : NULL;
    for (Py_ssize_t i = 0; *ends && i < n; i++) {
        if (i + NAMES_AHEAD < n) {
            MAPIX_PREFETCH(item_of(names, i + NAMES_AHEAD), 0);
        }
        PyObject *name = item_of(names, i);
        if (!name || !text_of(name, &nbytes) || nbytes > PY_SSIZE_T_MAX - total - ndomain) {
            return -1;
        }
        total += ndomain + nbytes;
    }
    *bytes = *ends ? malloc((size_t)total) : NULL;
    if (!*bytes) {
        return -1;
    }
    uint8_t *to = *bytes;
    for (Py_ssize_t i = 0; i < n; i++) {
        const char *name = text_of(item_of(names, i), &nbytes);
        memcpy(to, first, (size_t)ndomain);
        memcpy(to + ndomain, name, (size_t)nbytes);
        (*ends)[2 * i] = (uint64_t)(to + ndomain - *bytes);
        to += ndomain + nbytes;
        (*ends)[2 * i + 1] = (uint64_t)(to - *bytes);
    }
    return n;
}

/* find_many(domain, names): the lowest key of each, or -1. */
static PyObject *segments_find_many(segments_object *self, PyObject *args) {
    PyObject *domain, *names, *made = NULL;
    if (!PyArg_ParseTuple(args, "OO", &domain, &names)) {
        return NULL;
    }
    uint8_t *bytes = NULL;
    uint64_t *ends = NULL;
    PyObject *fixed = KNOWN(self->slots) ? fixed_names(names) : NULL;
    const npy_intp n = fixed ? packed(domain, fixed, &bytes, &ends) : -1;
    int status = MAPIX_E_ARGUMENT;
    held h;
    if (n >= 0 && (made = PyArray_SimpleNew(1, (npy_intp *)(uintptr_t)&n, NPY_INT64)) && !begin(self, &h)) {
        mapix_where where;
        int64_t *keys = PyArray_DATA((PyArrayObject *)made);
        status = end(&h, self->call.find(h.map, &self->iid, self->seed, self->slots, self->nslots, bytes, ends,
                                 (uint64_t)n, keys, &where));
    }
    free(bytes);
    free(ends);
    Py_XDECREF(fixed);
    if (status) {
        Py_CLEAR(made);
        PyErr_Clear(); /* no memory here, perhaps enough there */
        return by_subclass(self, "_find_many", Py_NewRef(args));
    }
    return made;
}

/* --- keys by place ------------------------------------------------------------------------------ */

/* The keys with a pixel in a window, ascending; None where the caller has to search by other means. */
static PyObject *hits_in(segments_object *self, const uint16_t box[4]) {
    uint32_t found[MOST_HITS], count = 0;
    uint64_t next = 0, nfound = 0;
    int status = MAPIX_E_ARGUMENT;
    mapix_where where;
    held h;
    if (KNOWN(self->parts) && !begin(self, &h)) {
        status = end(&h, self->call.hits(h.map, &self->iid, self->parts, box, 1, &next, found, MOST_HITS,
                                         &nfound, &count, &where));
    }
    if (status || !next) {
        Py_RETURN_NONE;
    }
    return new_array(NPY_UINT32, count, found, count * sizeof *found);
}

/* An int, and nothing else, as a side of a window. */
static int side_of(PyObject *given, long *side) {
    int overflow;
    if (!PyLong_CheckExact(given)) {
        return -1;
    }
    *side = PyLong_AsLongAndOverflow(given, &overflow);
    return overflow ? -1 : 0;
}

/* at(x, y) */
static PyObject *segments_at(segments_object *self, PyObject *const *args, Py_ssize_t nargs) {
    long x, y;
    if (nargs != 2 || side_of(args[0], &x) || side_of(args[1], &y) || x < 0 || y < 0 || x >= UINT16_MAX ||
        y >= UINT16_MAX) {
        Py_RETURN_NONE;
    }
    return hits_in(self, (const uint16_t[4]){(uint16_t)y, (uint16_t)x, (uint16_t)(y + 1), (uint16_t)(x + 1)});
}

/* region((minr, minc, maxr, maxc)) */
static PyObject *segments_region(segments_object *self, PyObject *window) {
    uint16_t box[4];
    if (!PyTuple_CheckExact(window) || PyTuple_Size(window) != 4) {
        Py_RETURN_NONE;
    }
    for (Py_ssize_t k = 0; k < 4; k++) {
        long side;
        if (side_of(PyTuple_GetItem(window, k), &side)) {
            Py_RETURN_NONE;
        }
        box[k] = (uint16_t)(side < 0 ? 0 : side > UINT16_MAX ? UINT16_MAX : side);
    }
    return hits_in(self, box);
}

/* --- what the subclass gives -------------------------------------------------------------------- */

static PyObject *segments_attach(segments_object *self, PyObject *args) {
    PyObject *source, *cmap;
    unsigned long long map, iid, f[NFUNCTIONS];
    if (!PyArg_ParseTuple(args, "OOKK(KKKKKK)", &source, &cmap, &map, &iid, &f[0], &f[1], &f[2], &f[3], &f[4],
                          &f[5])) {
        return NULL;
    }
    if (!map || !iid || (self->source && self->source != source)) {
        PyErr_SetString(PyExc_ValueError, "a file of segments is attached once");
        return NULL;
    }
    if (!self->source) { /* when it is made: no other thread knows it */
        self->iid = *(const mapix_iid *)(uintptr_t)iid;
        self->source = Py_NewRef(source);
        self->call.columns = (__typeof__(self->call.columns))(uintptr_t)f[0];
        self->call.texts = (__typeof__(self->call.texts))(uintptr_t)f[1];
        self->call.own_mask = (__typeof__(self->call.own_mask))(uintptr_t)f[2];
        self->call.find = (__typeof__(self->call.find))(uintptr_t)f[3];
        self->call.hits = (__typeof__(self->call.hits))(uintptr_t)f[4];
        self->call.hashes = (__typeof__(self->call.hashes))(uintptr_t)f[5];
    }
    PyObject *old;
    Py_BEGIN_CRITICAL_SECTION(self);
    old = self->cmap;
    self->cmap = Py_NewRef(cmap);
    self->map = (const mapix_map *)(uintptr_t)map;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old); /* a call of another thread may hold it */
    Py_RETURN_NONE;
}

/* A table is given once; another thread may have been faster, and made the same.  The caller is in a critical
 * section, and publishes the pointer by which the table is known last. */
static int given_once(PyObject **owner, PyObject *given) {
    if (*owner) {
        return 0;
    }
    *owner = Py_NewRef(given);
    return 1;
}

static PyObject *segments_use_heads(segments_object *self, PyObject *args) {
    PyObject *owner;
    unsigned long long boxes, areas;
    if (!PyArg_ParseTuple(args, "OKK", &owner, &boxes, &areas)) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (given_once(&self->heads, owner)) {
        self->areas = (const uint32_t *)(uintptr_t)areas;
        PUBLISH(self->boxes, (const uint16_t *)(uintptr_t)boxes);
    }
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *segments_use_names(segments_object *self, PyObject *args) {
    PyObject *owner;
    unsigned long long seed, slots, nslots, chain;
    if (!PyArg_ParseTuple(args, "OKKKK", &owner, &seed, &slots, &nslots, &chain)) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (given_once(&self->names, owner)) {
        self->seed = seed;
        self->nslots = nslots;
        self->chain = (const uint32_t *)(uintptr_t)chain;
        PUBLISH(self->slots, (const uint64_t *)(uintptr_t)slots);
    }
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *segments_use_tree(segments_object *self, PyObject *args) {
    PyObject *owner;
    unsigned long long parts;
    if (!PyArg_ParseTuple(args, "OK", &owner, &parts)) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (given_once(&self->tree, owner)) {
        PUBLISH(self->parts, (const mapix_parts *)(uintptr_t)parts);
    }
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static int segments_traverse(segments_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->source);
    Py_VISIT(self->cmap);
    Py_VISIT(self->heads);
    Py_VISIT(self->names);
    Py_VISIT(self->tree);
    return 0;
}

static int segments_clear(segments_object *self) {
    self->boxes = NULL;
    self->slots = NULL;
    self->parts = NULL;
    Py_CLEAR(self->source); /* first: without it, `begin` takes nothing */
    Py_CLEAR(self->cmap);
    Py_CLEAR(self->heads);
    Py_CLEAR(self->names);
    Py_CLEAR(self->tree);
    return 0;
}

static void segments_dealloc(segments_object *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    (void)segments_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef segments_methods[] = {
    {"_attach", (PyCFunction)segments_attach, METH_VARARGS, NULL},
    {"_use_heads", (PyCFunction)segments_use_heads, METH_VARARGS, NULL},
    {"_use_names", (PyCFunction)segments_use_names, METH_VARARGS, NULL},
    {"_use_tree", (PyCFunction)segments_use_tree, METH_VARARGS, NULL},
    {"head", (PyCFunction)segments_head, METH_O,
     "Return box and area of a segment, as its header states them."},
    {"name", (PyCFunction)segments_name, METH_O, "Return (domain, iid) of a segment."},
    {"own_mask", (PyCFunction)segments_own_mask, METH_O, "Return the mask of a segment's own box."},
    {"find", (PyCFunction)(void (*)(void))segments_find, METH_FASTCALL, "Return all keys of a name, uint32, ascending."},
    {"find_many", (PyCFunction)segments_find_many, METH_VARARGS,
     "Return the lowest key of each name in a domain, or -1, int64 (n,)."},
    {"at", (PyCFunction)(void (*)(void))segments_at, METH_FASTCALL,
     "Return the keys at pixel (x, y), uint32, ascending; None where it has to be found by other means."},
    {"region", (PyCFunction)segments_region, METH_O,
     "Return the keys with a pixel in a window (minr, minc, maxr, maxc); None as for ``at``."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot segments_slots[] = {
    {Py_tp_methods, segments_methods},
    {Py_tp_traverse, (void *)segments_traverse},
    {Py_tp_clear, (void *)segments_clear},
    {Py_tp_dealloc, (void *)segments_dealloc},
    {0, NULL},
};

static PyType_Spec segments_spec = {
    "mapix._record.SegmentFile", sizeof(segments_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, segments_slots};

/* --- Segment ------------------------------------------------------------------------------------ */

/* A number of a segment, of anything with __index__; -1 with an exception. */
static int number_of(PyObject *given, uint64_t end, uint32_t *number) {
    PyObject *integer = PyNumber_Index(given);
    const unsigned long long value = integer ? PyLong_AsUnsignedLongLong(integer) : 0;
    Py_XDECREF(integer);
    if (PyErr_Occurred()) {
        return -1;
    }
    if (value >= end) {
        PyErr_Format(PyExc_IndexError, "segment %llu of %llu", value, (unsigned long long)end);
        return -1;
    }
    *number = (uint32_t)value;
    return 0;
}

static PyObject *segment_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"file", "row", "key", NULL};
    PyObject *file, *row, *key = NULL;
    uint32_t numbers[2];
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|O", names, segments_type, &file, &row, &key) ||
        number_of(row, ((segments_object *)file)->iid.nsegments, &numbers[0]) ||
        number_of(key ? key : row, UINT32_MAX, &numbers[1])) {
        return NULL;
    }
    segment_object *made = (segment_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (made) {
        made->file = (segments_object *)Py_NewRef(file);
        made->row = numbers[0];
        made->key = numbers[1];
    }
    return (PyObject *)made;
}

static void segment_dealloc(segment_object *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_XDECREF((PyObject *)self->file);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* closure: null for the domain, else for the iid */
static PyObject *segment_name(segment_object *self, void *closure) {
    PyObject *pair = name_of_row(self->file, self->row);
    PyObject *found = pair ? PySequence_GetItem(pair, closure ? 1 : 0) : NULL;
    Py_XDECREF(pair);
    return found;
}

enum { BBOX, AREA, SHAPE };
static const int head_parts[3] = {BBOX, AREA, SHAPE};

/* closure: which part of the head */
static PyObject *segment_head(segment_object *self, void *closure) {
    const int which = *(const int *)closure;
    uint16_t box[4];
    uint32_t area;
    const int status = head_of(self->file, self->row, box, &area);
    if (status) {
        PyObject *head = head_slowly(self->file, self->row);
        unsigned number;
        const int parsed = head && PyArg_ParseTuple(head, "(HHHH)I", &box[0], &box[1], &box[2], &box[3], &number);
        Py_XDECREF(head);
        if (!parsed) {
            return NULL;
        }
        area = number;
    }
    if (which == AREA) {
        return PyLong_FromUnsignedLong(area);
    }
    return which == BBOX ? box_tuple(box) : Py_BuildValue("ii", box[2] - box[0], box[3] - box[1]);
}

static PyObject *segment_mask(segment_object *self, PyObject *args, PyObject *kwargs) {
    if (MAPIX_LIKELY(!kwargs && PyTuple_Size(args) == 0)) {
        return mask_of_row(self->file, self->row);
    }
    PyObject *bbox = Py_None, *out = Py_None;
    static char *names[] = {"bbox", "out", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:mask", names, &bbox, &out)) {
        return NULL;
    }
    if (bbox == Py_None && out == Py_None) {
        return mask_of_row(self->file, self->row);
    }
    return by_subclass(self->file, "mask", Py_BuildValue("(IOO)", self->row, bbox, out));
}

static PyMethodDef segment_methods[] = {
    {"mask", (PyCFunction)(void (*)(void))segment_mask, METH_VARARGS | METH_KEYWORDS,
     "mask($self, /, bbox=None, out=None)\n--\n\n"
     "Return the mask of the segment's box, or of another one.\n\n"
     "Parameters\n----------\n"
     "bbox : (minr, minc, maxr, maxc), optional\n"
     "    Any box of the image; pixels outside of the segment are False.\n"
     "out : ndarray, optional\n"
     "    bool or uint8, C-contiguous, of exactly that shape.\n\n"
     "Returns\n-------\n"
     "ndarray\n    bool (h, w), or ``out``."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef segment_members[] = {
    {"_file", T_OBJECT_EX, offsetof(segment_object, file), READONLY, NULL},
    {"_row", T_UINT, offsetof(segment_object, row), READONLY, NULL},
    {"key", T_UINT, offsetof(segment_object, key), READONLY, "Its number in the archive."},
    {NULL, 0, 0, 0, NULL},
};

#define PART(which) (void *)(uintptr_t)&head_parts[which]

static PyGetSetDef segment_getset[] = {
    {"domain", (getter)segment_name, NULL, "The namespace of its name; empty without one.", NULL},
    {"iid", (getter)segment_name, NULL, "Its name within the domain.", segment_members},
    {"bbox", (getter)segment_head, NULL, "(minr, minc, maxr, maxc), half open, as the file states it.", PART(BBOX)},
    {"area", (getter)segment_head, NULL, "Pixels, as the file states them.", PART(AREA)},
    {"shape", (getter)segment_head, NULL, "(h, w) of the box.", PART(SHAPE)},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot segment_slots[] = {
    {Py_tp_new, (void *)segment_new},
    {Py_tp_members, segment_members},
    {Py_tp_getset, segment_getset},
    {Py_tp_methods, segment_methods},
    {Py_tp_dealloc, (void *)segment_dealloc},
    {0, NULL},
};

/* Without the collector: its one reference goes to a SegmentFile, which refers to no segments. */
static PyType_Spec segment_spec = {"mapix._record.Segment", sizeof(segment_object), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, segment_slots};

int mapix_add_archive(PyObject *module) {
    import_array1(-1);
    mapping_name = PyUnicode_InternFromString("_mapping");
    segments_type = mapping_name ? mapix_add_type(module, "SegmentFile", &segments_spec) : NULL;
    return segments_type && mapix_add_type(module, "Segment", &segment_spec) ? 0 : -1;
}
