/* record.c - mapix._record: ds[i] and its views, as C types over numpy's C API.
 *
 * Three base classes, each with a twin in Python (src/mapix/vimh/pure.py) that does the same, more
 * slowly: File (of Gatherer) knows where the records are, Rows (of Dataset) picks one by number,
 * Record makes arrays that alias the file.  Only what is fast lives here: whatever is rare or goes
 * wrong is handed to a method of the Python class (`_ready`, `_find`, `_pick`), which raises.
 *
 * What may be trusted: `data` is the whole map, held as a buffer; `index` was checked in `_attach`.
 * A walked table is private memory that our own walk wrote.  A stored table is a mapped file of
 * somebody's: it is touched by mapix_vimh_find alone, under the guard of mapix._core, and what that
 * has confirmed is kept in `known`, private memory of bounded size.
 *
 * One interpreter, with the GIL: state is static, and initialisation has one phase, so that others
 * refuse the module and get the twin.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <structmember.h>
#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#include <numpy/arrayobject.h>

#include "../vimh.h"

typedef int (*find_function)(const mapix_map *, const mapix_vimh_index *, uint64_t, mapix_entry *,
                             mapix_where *);

/* Entries of a stored table that were confirmed, by the low bits of their row; `reserved` holds
 * the row's high bits plus one.  4 MiB at most, however many records there are. */
enum { KNOWN_BITS = 18, KNOWN_MOST_TAG = 0xFFFF };

typedef struct {
    PyObject_HEAD
    Py_buffer data;    /* the file; data.obj, which keeps it mapped, is the base of all arrays */
    Py_buffer entries; /* the table, if there is one */
    mapix_vimh_index index;
    uint64_t nbytes;       /* of the file */
    uint64_t fixed_nbytes; /* of a record: header and label count */
    find_function find;    /* of a stored table; else null */
    mapix_entry *known;    /* of a stored table, made when first needed */
    unsigned known_bits;
} file_object;

typedef struct {
    PyObject_HEAD
    file_object *file;
    Py_buffer numbers; /* int64: the record of each row; without it start + row * step */
    int64_t n, start, step;
} rows_object;

typedef struct {
    PyObject_HEAD
    file_object *file;
    long long row;
    mapix_entry entry;
} record_object;

static PyTypeObject *file_type, *rows_type, *record_type;

/* --- File: where the records are ------------------------------------------------------------- */

static int ready(file_object *self) {
    if (MAPIX_LIKELY(self->data.obj != NULL)) {
        return 0;
    }
    PyObject *done = PyObject_CallMethod((PyObject *)self, "_ready", NULL);
    Py_XDECREF(done);
    if (done && !self->data.obj) {
        PyErr_SetString(PyExc_RuntimeError, "_ready() has not attached the file");
    }
    return self->data.obj ? 0 : -1;
}

static uint64_t size_of(const file_object *self, const mapix_entry *e) {
    return self->fixed_nbytes + 2 * (uint64_t)entry_n(e) + pixels(e->h, e->w, e->c);
}

static int in_bounds(const file_object *self, const mapix_entry *e) {
    const uint64_t at = entry_at(e);
    return at <= self->nbytes && size_of(self, e) <= self->nbytes - at;
}

/* The entry by way of Python, which tells what is wrong with it, and raises. */
static int find_slowly(file_object *self, uint64_t row, mapix_entry *e) {
    PyObject *found = PyObject_CallMethod((PyObject *)self, "_find", "K", (unsigned long long)row);
    unsigned long long at_n;
    *e = (mapix_entry){0};
    const int parsed = found && PyArg_ParseTuple(found, "KHHH", &at_n, &e->h, &e->w, &e->c);
    Py_XDECREF(found);
    if (parsed) {
        e->at_n = at_n;
    }
    return parsed ? 0 : -1;
}

/* Without the GIL: a page may have to come from disk. */
static int find_quickly(file_object *self, uint64_t row, mapix_entry *e) {
    const mapix_map map = {.base = self->data.buf, .nbytes = self->nbytes, .fd = -1};
    PyObject *owner = Py_NewRef(self->data.obj); /* another thread may close the file meanwhile */
    PyObject *own = Py_NewRef((PyObject *)self);
    mapix_where where;
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = self->find(&map, &self->index, row, e, &where);
    Py_END_ALLOW_THREADS
    Py_DECREF(owner);
    Py_DECREF(own);
    return status;
}

static void make_known(file_object *self) {
    unsigned bits = 0;
    while (bits < KNOWN_BITS && (UINT64_C(1) << bits) < self->index.nrecords) {
        bits++;
    }
    self->known = calloc((size_t)1 << bits, sizeof(mapix_entry));
    self->known_bits = bits;
}

static int stored_entry(file_object *self, uint64_t row, mapix_entry *e) {
    if (MAPIX_UNLIKELY(!self->known)) {
        make_known(self); /* where there is no memory, each use is confirmed anew */
    }
    const uint64_t tag = (row >> self->known_bits) + 1;
    mapix_entry *slot =
        self->known ? &self->known[row & ((UINT64_C(1) << self->known_bits) - 1)] : NULL;
    if (slot && slot->reserved == tag) {
        *e = *slot;
        return 0;
    }
    if (find_quickly(self, row, e) != MAPIX_OK && find_slowly(self, row, e)) {
        return -1;
    }
    if (MAPIX_UNLIKELY(ready(self))) { /* closed meanwhile */
        return -1;
    }
    if (slot && tag <= KNOWN_MOST_TAG) {
        *slot = *e;
        slot->reserved = (uint16_t)tag;
    }
    return 0;
}

/* A new record; row < nrecords. */
static PyObject *record_at(file_object *self, uint64_t row) {
    mapix_entry e;
    if (!self->index.entries) { /* _attach has looked that all records are in bounds */
        e = self->index.first;
        e.at_n += row * self->index.stride;
    } else {
        if (!self->find) {
            e = self->index.entries[row];
        } else if (stored_entry(self, row, &e)) {
            return NULL;
        }
        if (MAPIX_UNLIKELY(!in_bounds(self, &e))) {
            return PyErr_Format(PyExc_SystemError, "record %llu is out of bounds",
                                (unsigned long long)row);
        }
    }
    record_object *made = PyObject_New(record_object, record_type);
    if (made) {
        made->file = (file_object *)Py_NewRef((PyObject *)self);
        made->row = (long long)row;
        made->entry = e;
    }
    return (PyObject *)made;
}

static PyObject *file_record(file_object *self, PyObject *arg) {
    const long long row = PyLong_AsLongLong(arg);
    if ((row == -1 && PyErr_Occurred()) || ready(self)) {
        return NULL;
    }
    if (row < 0 || (uint64_t)row >= self->index.nrecords) {
        return PyErr_Format(PyExc_IndexError, "record %lld of %llu", row,
                            (unsigned long long)self->index.nrecords);
    }
    return record_at(self, (uint64_t)row);
}

/* Whether all of the index lies within the file, so that record_at need not look again. */
static int fits(const file_object *self) {
    const mapix_vimh_index *index = &self->index;
    if (index->head_nbytes != 6 && index->head_nbytes != 14) {
        return 0;
    }
    if (index->entries) {
        return (uint64_t)self->entries.len / sizeof(mapix_entry) == index->nrecords &&
               (uintptr_t)index->entries % _Alignof(mapix_entry) == 0;
    }
    if (!index->nrecords) {
        return 1;
    }
    const uint64_t size = size_of(self, &index->first);
    return in_bounds(self, &index->first) && size <= index->stride &&
           index->nrecords - 1 <=
               (self->nbytes - entry_at(&index->first) - size) / index->stride;
}

/* The buffers are released by the caller when this fails. */
static int take(file_object *self, PyObject *data, PyObject *entries) {
    self->index.entries = NULL;
    if (PyObject_GetBuffer(data, &self->data, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    self->nbytes = (uint64_t)self->data.len;
    self->fixed_nbytes = (uint64_t)self->index.head_nbytes + 1;
    if (entries != Py_None) {
        if (PyObject_GetBuffer(entries, &self->entries, PyBUF_SIMPLE) < 0) {
            return -1;
        }
        self->index.entries = self->entries.buf;
    }
    if (!fits(self)) {
        PyErr_SetString(PyExc_ValueError, "the index does not fit the file");
        return -1;
    }
    return 0;
}

/* _attach(data, nrecords, stride, first, entries, head_nbytes, interleaved, find): see pure.py */
static PyObject *file_attach(file_object *self, PyObject *args) {
    PyObject *data, *entries;
    unsigned long long n, stride, at, find;
    unsigned h, w, c, nlabels, head_nbytes;
    int interleaved;
    if (!PyArg_ParseTuple(args, "OKK(KIIII)OIpK", &data, &n, &stride, &at, &h, &w, &c, &nlabels,
                          &entries, &head_nbytes, &interleaved, &find)) {
        return NULL;
    }
    if (self->data.obj) { /* another thread was faster */
        Py_RETURN_NONE;
    }
    if (self->nbytes) {
        PyErr_SetString(PyExc_RuntimeError, "a file is attached once");
        return NULL;
    }
    if (at > MAPIX_AT_MASK || (h | w | c) > UINT16_MAX || nlabels > UINT8_MAX) {
        PyErr_SetString(PyExc_ValueError, "no such record");
        return NULL;
    }
    const vimh_header header = {.h = (uint16_t)h, .w = (uint16_t)w, .c = (uint16_t)c,
                                .n = (uint8_t)nlabels};
    entry_set(&self->index.first, at, &header);
    self->index.nrecords = n;
    self->index.stride = stride;
    self->index.head_nbytes = head_nbytes;
    self->index.interleaved = (uint32_t)interleaved;
    if (take(self, data, entries)) {
        PyBuffer_Release(&self->data);
        PyBuffer_Release(&self->entries);
        return NULL;
    }
    self->find = (find_function)(uintptr_t)find;
    Py_RETURN_NONE;
}

/* Let go of the file.  The table stays: another thread may be looking into it. */
static PyObject *file_detach(file_object *self, PyObject *Py_UNUSED(none)) {
    PyBuffer_Release(&self->data); /* does nothing when there is none */
    Py_RETURN_NONE;
}

static int file_traverse(file_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->data.obj);
    Py_VISIT(self->entries.obj);
    return 0;
}

static int file_clear(file_object *self) {
    PyBuffer_Release(&self->data);
    PyBuffer_Release(&self->entries);
    self->index.nrecords = 0;
    return 0;
}

static void file_dealloc(file_object *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    (void)file_clear(self);
    free(self->known);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef file_methods[] = {
    {"_attach", (PyCFunction)file_attach, METH_VARARGS, NULL},
    {"_detach", (PyCFunction)file_detach, METH_NOARGS, NULL},
    {"record", (PyCFunction)file_record, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot file_slots[] = {
    {Py_tp_methods, file_methods},
    {Py_tp_traverse, (void *)file_traverse},
    {Py_tp_clear, (void *)file_clear},
    {Py_tp_dealloc, (void *)file_dealloc},
    {0, NULL},
};

static PyType_Spec file_spec = {
    "mapix._record.File", sizeof(file_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, file_slots};

/* --- Rows: one record by its number ---------------------------------------------------------- */

static PyObject *rows_getitem(rows_object *self, PyObject *key) {
    if (MAPIX_LIKELY(PyLong_CheckExact(key) && self->file)) {
        long long row = PyLong_AsLongLong(key);
        if (row == -1 && PyErr_Occurred()) {
            PyErr_Clear(); /* too large for a number of anything */
            row = LLONG_MIN;
        }
        row += row < 0 ? self->n : 0;
        if (MAPIX_LIKELY(row >= 0 && row < self->n)) {
            file_object *file = self->file;
            row = self->numbers.obj ? ((const int64_t *)self->numbers.buf)[row]
                                    : self->start + row * self->step;
            if (MAPIX_UNLIKELY(ready(file))) {
                return NULL;
            }
            if (MAPIX_LIKELY(row >= 0 && (uint64_t)row < file->index.nrecords)) {
                return record_at(file, (uint64_t)row);
            }
            return PyErr_Format(PyExc_IndexError, "record %lld of %llu", row,
                                (unsigned long long)file->index.nrecords);
        }
    }
    return PyObject_CallMethod((PyObject *)self, "_pick", "O", key);
}

/* _bind(file, n, start, step, numbers): row i is record numbers[i], or start + i * step. */
static PyObject *rows_bind(rows_object *self, PyObject *args) {
    PyObject *file, *numbers;
    long long n, start, step;
    if (!PyArg_ParseTuple(args, "O!LLLO", file_type, &file, &n, &start, &step, &numbers)) {
        return NULL;
    }
    if (self->file) {
        PyErr_SetString(PyExc_RuntimeError, "rows are bound once");
        return NULL;
    }
    if (numbers == Py_None) {
        /* start + row * step is then computed for 0 <= row < n, without overflow */
        const long long most = LLONG_MAX / 4;
        if (n < 0 || n > most || start < -most || start > most ||
            (n > 1 && (step > most / n || step < -most / n))) {
            PyErr_SetString(PyExc_ValueError, "no range of records");
            return NULL;
        }
    } else if (PyObject_GetBuffer(numbers, &self->numbers, PyBUF_SIMPLE) < 0) {
        return NULL;
    } else if (n < 0 || self->numbers.len / (Py_ssize_t)sizeof(int64_t) != n) {
        PyBuffer_Release(&self->numbers);
        PyErr_SetString(PyExc_ValueError, "not n numbers of records");
        return NULL;
    }
    self->file = (file_object *)Py_NewRef(file);
    self->n = n;
    self->start = start;
    self->step = step;
    Py_RETURN_NONE;
}

static int rows_traverse(rows_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->file);
    Py_VISIT(self->numbers.obj);
    return 0;
}

static int rows_clear(rows_object *self) {
    self->n = 0;
    Py_CLEAR(self->file);
    PyBuffer_Release(&self->numbers);
    return 0;
}

static void rows_dealloc(rows_object *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    (void)rows_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef rows_methods[] = {
    {"_bind", (PyCFunction)rows_bind, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot rows_slots[] = {
    {Py_mp_subscript, (void *)rows_getitem},
    {Py_tp_methods, rows_methods},
    {Py_tp_traverse, (void *)rows_traverse},
    {Py_tp_clear, (void *)rows_clear},
    {Py_tp_dealloc, (void *)rows_dealloc},
    {0, NULL},
};

static PyType_Spec rows_spec = {
    "mapix._record.Rows", sizeof(rows_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, rows_slots};

/* --- Record: arrays that alias the file ------------------------------------------------------- */

static PyObject *array_at(const file_object *file, uint64_t at, int ndim, npy_intp *shape,
                          npy_intp *steps) {
    /* Without NPY_ARRAY_WRITEABLE, and over a buffer that is read-only: it cannot be switched on. */
    PyObject *made = PyArray_NewFromDescr(&PyArray_Type, PyArray_DescrFromType(NPY_UINT8), ndim,
                                          shape, steps, (uint8_t *)file->data.buf + at, 0, NULL);
    if (made && PyArray_SetBaseObject((PyArrayObject *)made, Py_NewRef(file->data.obj)) < 0) {
        Py_CLEAR(made);
    }
    return made;
}

static uint64_t labels_at(const record_object *self) {
    return entry_at(&self->entry) + self->file->fixed_nbytes;
}

static PyObject *record_image(record_object *self, void *Py_UNUSED(closure)) {
    if (ready(self->file)) {
        return NULL;
    }
    const mapix_entry *e = &self->entry;
    const npy_intp h = e->h, w = e->w, c = e->c;
    npy_intp shape[3] = {h, w, c}, planar[3] = {w, 1, h * w}, interleaved[3] = {w * c, c, 1};
    const uint64_t at = labels_at(self) + 2 * (uint64_t)entry_n(e);
    return array_at(self->file, at, 3, shape, self->file->index.interleaved ? interleaved : planar);
}

/* closure: null for ids, else for codes */
static PyObject *record_labels(record_object *self, void *closure) {
    if (ready(self->file)) {
        return NULL;
    }
    npy_intp n = entry_n(&self->entry), step = 2;
    return array_at(self->file, labels_at(self) + (closure ? 1 : 0), 1, &n, &step);
}

static PyObject *record_offset(record_object *self, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLongLong(entry_at(&self->entry));
}

static PyObject *record_nbytes(record_object *self, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLongLong(size_of(self->file, &self->entry));
}

static PyObject *record_shape(record_object *self, void *Py_UNUSED(closure)) {
    return Py_BuildValue("HHH", self->entry.h, self->entry.w, self->entry.c);
}

static PyObject *record_nlabels(record_object *self, void *Py_UNUSED(closure)) {
    return PyLong_FromLong(entry_n(&self->entry));
}

static void record_dealloc(record_object *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_XDECREF((PyObject *)self->file);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* closure: name of the method of Gatherer that knows */
static PyObject *record_by_file(record_object *self, void *closure) {
    return PyObject_CallMethod((PyObject *)self->file, closure, "O", self);
}

static PyObject *record_repr(record_object *self) {
    return record_by_file(self, "repr_of");
}

static PyMemberDef record_members[] = {
    {"index", T_LONGLONG, offsetof(record_object, row), READONLY, "number of the record in the file"},
    {"_file", T_OBJECT_EX, offsetof(record_object, file), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef record_getset[] = {
    {"image", (getter)record_image, NULL,
     "The image, uint8 (h, w, c), read-only, aliasing the file.", NULL},
    {"label_bytes", (getter)record_labels, NULL,
     "Codes of the labels in the order of the file, uint8 (N,), read-only view.", record_getset},
    {"label_ids", (getter)record_labels, NULL,
     "Parameter ids of the labels in the order of the file, uint8 (N,), read-only view.", NULL},
    {"offset", (getter)record_offset, NULL, "Byte of the record in the file.", NULL},
    {"nbytes", (getter)record_nbytes, NULL,
     "Bytes of the whole record, header and labels included.", NULL},
    {"shape", (getter)record_shape, NULL, "(h, w, c) of the image.", NULL},
    {"nlabels", (getter)record_nlabels, NULL, "Number of labels.", NULL},
    {"labels", (getter)record_by_file, NULL,
     "Name -> code (0..255).  Of an id that appears twice the last one counts.", "labels_of"},
    {"values", (getter)record_by_file, NULL,
     "Name -> value in physical units; codes themselves where the range is not known.",
     "values_of"},
    {"spec_range", (getter)record_by_file, NULL,
     "(spec_min, spec_max) of the record; None in the 6-byte dialect, which has none.",
     "spec_range_of"},
    {NULL, NULL, NULL, NULL, NULL},
};

static const char record_doc[] =
    "One image and its labels, looked at where they lie in the file: see mapix.vimh.pure.Record.";

static PyType_Slot record_slots[] = {
    {Py_tp_members, record_members},
    {Py_tp_getset, record_getset},
    {Py_tp_repr, (void *)record_repr},
    {Py_tp_doc, (void *)record_doc},
    {Py_tp_dealloc, (void *)record_dealloc},
    {0, NULL},
};

/* Not tracked by the collector: its one reference goes to a File, which refers to no records. */
static PyType_Spec record_spec = {
    "mapix.vimh.record.Record", sizeof(record_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    record_slots};

/* --- the module ------------------------------------------------------------------------------- */

static PyTypeObject *add_type(PyObject *module, const char *name, PyType_Spec *spec) {
    PyObject *type = PyType_FromSpec(spec);
    if (type && PyModule_AddObjectRef(module, name, type) < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "mapix._record", "ds[i] and its views, in C.", -1, NULL, NULL, NULL, NULL,
    NULL};

PyMODINIT_FUNC PyInit__record(void);
PyMODINIT_FUNC PyInit__record(void) {
    import_array();
    PyObject *made = PyModule_Create(&module);
    if (!made) {
        return NULL;
    }
    if (!(file_type = add_type(made, "File", &file_spec)) ||
        !(rows_type = add_type(made, "Rows", &rows_spec)) ||
        !(record_type = add_type(made, "Record", &record_spec))) {
        Py_CLEAR(made);
    }
    return made;
}
