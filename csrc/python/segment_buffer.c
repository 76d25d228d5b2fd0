/* segment_buffer.c - SegmentBuffer: segments of a new archive that are not written yet, and its lookup table.
 *
 * segment_fallback.py in src/mapix/iid has the same in Python; the writer decides when to write.  `add` takes the usual
 * arguments alone, and returns None for all others: the writer then checks, packs, and calls `put`.
 * Each call is one critical section: threads that share a writer find a complete buffer.
 */
#include "record.h"

#include <stdlib.h>
#include <structmember.h>

#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#include <numpy/arrayobject.h>

enum {
    FULL_NBYTES = 1 << 20, /* of names, or of segments: `add` takes no more */
    MOST_PIXELS = 1 << 14, /* of a mask that is packed here, */
    PACK_NBYTES = 1 << 16, /* into so many bytes at most */
    LUT_NBYTES = 20,
    NAME_HEAD = 12,
    SEGMENT_HEAD = 16
};

typedef struct {
    uint8_t *bytes;
    size_t n, capacity;
} memory;

typedef struct {
    PyObject_HEAD
    __typeof__(mapix_iid_pack) *pack;
    uint32_t *scratch;
    uint64_t nscratch, most; /* bytes of a section, and of all sections before the segments */
    memory names, segs, lut, boxes, areas;
    unsigned long long names_nbytes, segs_nbytes; /* before those that are held */
    unsigned long long reserved;                  /* bytes of the other sections before the segments */
    int indexed;
} buffer_object;

/* Make space for nbytes more; -1, without an exception, if there is no memory. */
static int grow(memory *m, size_t nbytes) {
    if (nbytes > SIZE_MAX / 4 - m->n) {
        return -1;
    }
    const size_t need = m->n + nbytes;
    if (need > m->capacity) {
        const size_t more = need + need / 2 + 4096;
        uint8_t *bytes = realloc(m->bytes, more);
        if (!bytes) {
            return -1;
        }
        m->bytes = bytes;
        m->capacity = more;
    }
    return 0;
}

static void append(memory *m, const void *from, size_t nbytes) {
    memcpy(m->bytes + m->n, from, nbytes);
    m->n += nbytes;
}

static uint64_t count(const buffer_object *self) {
    return self->lut.n / LUT_NBYTES;
}

/* Make space in all of them for one more segment, or return -1. */
static int make_room(buffer_object *self, size_t name_nbytes, size_t segment_nbytes) {
    return grow(&self->names, name_nbytes) || grow(&self->segs, segment_nbytes) || grow(&self->lut, LUT_NBYTES) ||
                   (self->indexed && (grow(&self->boxes, 8) || grow(&self->areas, 4)))
               ? -1
               : 0;
}

/* What surrounds the regions, which lie already where they belong: there is space. */
static void finish(buffer_object *self, const char *domain, size_t ndomain, const char *iid, size_t niid,
                   const uint16_t box[4], uint32_t area, size_t regions_nbytes) {
    const uint32_t key = (uint32_t)count(self);
    const uint32_t head[3] = {key, (uint32_t)ndomain, (uint32_t)niid};
    const uint32_t row[5] = {key, (uint32_t)(self->names_nbytes + self->names.n),
                             (uint32_t)(NAME_HEAD + ndomain + niid),
                             (uint32_t)(self->segs_nbytes + self->segs.n),
                             (uint32_t)(SEGMENT_HEAD + regions_nbytes)};
    append(&self->names, head, sizeof head);
    append(&self->names, domain, ndomain);
    append(&self->names, iid, niid);
    append(&self->segs, &key, 4);
    append(&self->segs, box, 8);
    append(&self->segs, &area, 4);
    self->segs.n += regions_nbytes;
    append(&self->lut, row, sizeof row);
    if (self->indexed) {
        append(&self->boxes, box, 8);
        append(&self->areas, &area, 4);
    }
}

/* The bytes of text or bytes, or of None as a domain; null, without an exception, for anything else. */
static const char *name_text(PyObject *text, Py_ssize_t *nbytes) {
    if (PyBytes_CheckExact(text)) {
        char *bytes;
        return PyBytes_AsStringAndSize(text, &bytes, nbytes) ? NULL : bytes;
    }
    const char *found = PyUnicode_CheckExact(text) ? PyUnicode_AsUTF8AndSize(text, nbytes) : NULL;
    PyErr_Clear(); /* the writer raises it again */
    return found;
}

/* (row, column), both ints that are not negative, or None: 0. */
static int corner(PyObject *at, long *row, long *column) {
    *row = *column = 0;
    if (at == Py_None) {
        return 0;
    }
    if (!PyTuple_CheckExact(at) || PyTuple_Size(at) != 2) {
        return -1;
    }
    PyObject *one = PyTuple_GetItem(at, 0), *two = PyTuple_GetItem(at, 1);
    int wide[2] = {1, 1};
    if (PyLong_CheckExact(one) && PyLong_CheckExact(two)) {
        *row = PyLong_AsLongAndOverflow(one, &wide[0]);
        *column = PyLong_AsLongAndOverflow(two, &wide[1]);
    }
    return wide[0] || wide[1] || *row < 0 || *column < 0 ? -1 : 0;
}

static PyObject *add(buffer_object *self, PyObject *const *args) {
    Py_ssize_t ndomain = 0, niid;
    long row, column;
    const char *domain = args[0] == Py_None ? "" : name_text(args[0], &ndomain);
    const char *iid = domain ? name_text(args[1], &niid) : NULL;
    if (!iid || !PyArray_CheckExact(args[2]) || corner(args[3], &row, &column)) {
        Py_RETURN_NONE;
    }
    PyArrayObject *mask = (PyArrayObject *)args[2];
    const int type = PyArray_TYPE(mask);
    if ((type != NPY_BOOL && type != NPY_UINT8) || PyArray_NDIM(mask) != 2 || !PyArray_ISCARRAY_RO(mask)) {
        Py_RETURN_NONE;
    }
    const npy_intp h = PyArray_DIM(mask, 0), w = PyArray_DIM(mask, 1), most = UINT16_MAX;
    const uint64_t listed = PyLong_AsUnsignedLongLong(args[4]);
    const uint64_t before = LUT_NBYTES + self->lut.n + self->names_nbytes + self->names.n + self->reserved;
    if (h > MOST_PIXELS || w > most || h * w > MOST_PIXELS || row > most - h || column > most - w ||
        ndomain > MOST_PIXELS || niid > MOST_PIXELS || self->names.n >= FULL_NBYTES ||
        self->segs.n >= FULL_NBYTES || self->segs_nbytes + 2 * FULL_NBYTES > self->most ||
        listed > UINT32_MAX || before + listed + 2 * FULL_NBYTES > self->most ||
        make_room(self, (size_t)(NAME_HEAD + ndomain + niid), SEGMENT_HEAD + PACK_NBYTES)) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    uint64_t nbytes;
    uint32_t area, nregions;
    uint8_t *into = self->segs.bytes + self->segs.n + SEGMENT_HEAD;
    if (self->pack(PyArray_DATA(mask), 0, (uint32_t)h, (uint32_t)w, (uint32_t)row, (uint32_t)column, self->scratch,
                   self->nscratch, into, PACK_NBYTES, &nbytes, &area, &nregions)) {
        Py_RETURN_NONE;
    }
    const uint16_t box[4] = {(uint16_t)row, (uint16_t)column, (uint16_t)(row + h), (uint16_t)(column + w)};
    const uint64_t key = count(self);
    finish(self, domain, (size_t)ndomain, iid, (size_t)niid, box, area, (size_t)nbytes);
    self->reserved += listed;
    return PyLong_FromUnsignedLongLong(key);
}

/* add(domain, iid, mask, at, listed): the key; or None if it is not this simple, or there is no space. */
static PyObject *buffer_add(buffer_object *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 5) {
        return PyErr_Format(PyExc_TypeError, "add takes 5 arguments, got %zd", nargs);
    }
    PyObject *key;
    Py_BEGIN_CRITICAL_SECTION(self);
    key = add(self, args);
    Py_END_CRITICAL_SECTION();
    return key;
}

static PyObject *put(buffer_object *self, PyObject *args) {
    const char *domain, *iid, *regions;
    Py_ssize_t ndomain, niid, nregions;
    uint16_t box[4];
    unsigned area;
    if (!PyArg_ParseTuple(args, "y#y#(HHHH)Iy#", &domain, &ndomain, &iid, &niid, &box[0], &box[1], &box[2],
                          &box[3], &area, &regions, &nregions)) {
        return NULL;
    }
    if (make_room(self, (size_t)NAME_HEAD + (size_t)ndomain + (size_t)niid, SEGMENT_HEAD + (size_t)nregions)) {
        return PyErr_NoMemory();
    }
    const uint64_t key = count(self);
    memcpy(self->segs.bytes + self->segs.n + SEGMENT_HEAD, regions, (size_t)nregions);
    finish(self, domain, (size_t)ndomain, iid, (size_t)niid, box, area, (size_t)nregions);
    return PyLong_FromUnsignedLongLong(key);
}

/* put(domain, iid, box, area, regions): the key; the writer has checked all. */
static PyObject *buffer_put(buffer_object *self, PyObject *args) {
    PyObject *key;
    Py_BEGIN_CRITICAL_SECTION(self);
    key = put(self, args);
    Py_END_CRITICAL_SECTION();
    return key;
}

static PyObject *bytes_of(const memory *m) {
    return PyBytes_FromStringAndSize((const char *)m->bytes, (Py_ssize_t)m->n);
}

/* Forget the content, and return memory that a large segment needed. */
static void empty(memory *m) {
    m->n = 0;
    if (m->capacity > 4 * FULL_NBYTES) {
        free(m->bytes);
        *m = (memory){NULL, 0, 0};
    }
}

/* The tuple comes first: making it may start the garbage collector, whose finalizers let other threads add. */
static PyObject *take(buffer_object *self) {
    PyObject *both = PyTuple_New(2);
    PyObject *names = both ? bytes_of(&self->names) : NULL, *segs = names ? bytes_of(&self->segs) : NULL;
    if (!segs) {
        Py_XDECREF(names);
        Py_XDECREF(both);
        return NULL;
    }
    (void)PyTuple_SetItem(both, 0, names);
    (void)PyTuple_SetItem(both, 1, segs);
    self->names_nbytes += self->names.n;
    self->segs_nbytes += self->segs.n;
    empty(&self->names);
    empty(&self->segs);
    return both;
}

static PyObject *buffer_take(buffer_object *self, PyObject *Py_UNUSED(none)) {
    PyObject *both;
    Py_BEGIN_CRITICAL_SECTION(self);
    both = take(self);
    Py_END_CRITICAL_SECTION();
    return both;
}

static PyObject *tables(buffer_object *self) {
    PyObject *lut = bytes_of(&self->lut), *boxes = bytes_of(&self->boxes), *areas = bytes_of(&self->areas);
    PyObject *all = lut && boxes && areas ? PyTuple_Pack(3, lut, boxes, areas) : NULL;
    Py_XDECREF(lut);
    Py_XDECREF(boxes);
    Py_XDECREF(areas);
    return all;
}

static PyObject *buffer_tables(buffer_object *self, PyObject *Py_UNUSED(none)) {
    PyObject *all;
    Py_BEGIN_CRITICAL_SECTION(self);
    all = tables(self);
    Py_END_CRITICAL_SECTION();
    return all;
}

static Py_ssize_t buffer_length(buffer_object *self) {
    return (Py_ssize_t)count(self);
}

/* closure: null for names, else for segments; with those that are held */
static PyObject *buffer_nbytes(buffer_object *self, void *closure) {
    return PyLong_FromUnsignedLongLong(closure ? self->segs_nbytes + self->segs.n
                                               : self->names_nbytes + self->names.n);
}

static PyObject *buffer_full(buffer_object *self, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(self->names.n >= FULL_NBYTES || self->segs.n >= FULL_NBYTES);
}

static PyObject *buffer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"indexed", "most", "pack", "nscratch", NULL};
    unsigned long long most, pack, nscratch;
    int indexed;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "pKKK", names, &indexed, &most, &pack, &nscratch)) {
        return NULL;
    }
    buffer_object *made = (buffer_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    uint32_t *scratch = made && nscratch <= SIZE_MAX / 4 ? malloc((size_t)nscratch * 4) : NULL;
    if (!scratch) {
        Py_XDECREF((PyObject *)made);
        return PyErr_NoMemory();
    }
    made->scratch = scratch;
    made->nscratch = nscratch;
    made->pack = (__typeof__(made->pack))(uintptr_t)pack;
    made->most = most < UINT32_MAX ? most : UINT32_MAX;
    made->indexed = indexed;
    return (PyObject *)made;
}

static void buffer_dealloc(buffer_object *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    memory *all[] = {&self->names, &self->segs, &self->lut, &self->boxes, &self->areas};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        free(all[i]->bytes);
    }
    free(self->scratch);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef buffer_methods[] = {
    {"add", (PyCFunction)(void (*)(void))buffer_add, METH_FASTCALL,
     "Pack a mask at (row, column), or None; return its key, or None if it is not this simple."},
    {"put", (PyCFunction)buffer_put, METH_VARARGS, "Append a segment that was checked; return its key."},
    {"take", (PyCFunction)buffer_take, METH_NOARGS, "Return names and segments, and forget them."},
    {"tables", (PyCFunction)buffer_tables, METH_NOARGS, "Return the bytes of lookup table, boxes and areas."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef buffer_getset[] = {
    {"names_nbytes", (getter)buffer_nbytes, NULL, "Bytes of all names so far.", NULL},
    {"segs_nbytes", (getter)buffer_nbytes, NULL, "Bytes of all segments so far.", buffer_methods},
    {"full", (getter)buffer_full, NULL, "Whether names and segments are to be taken.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef buffer_members[] = {
    {"reserved", T_ULONGLONG, offsetof(buffer_object, reserved), 0,
     "Bytes of header, metadata and groups, which share the limit of names and table."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot buffer_slots[] = {
    {Py_tp_new, (void *)buffer_new},         {Py_tp_methods, buffer_methods},
    {Py_tp_getset, buffer_getset},           {Py_tp_members, buffer_members},
    {Py_sq_length, (void *)buffer_length},   {Py_tp_dealloc, (void *)buffer_dealloc},
    {0, NULL},
};

static PyType_Spec buffer_spec = {"mapix._record.SegmentBuffer", sizeof(buffer_object), 0, Py_TPFLAGS_DEFAULT,
                                  buffer_slots};

int mapix_add_segment_buffer(PyObject *module) {
    import_array1(-1);
    return mapix_add_type(module, "SegmentBuffer", &buffer_spec) ? 0 : -1;
}
