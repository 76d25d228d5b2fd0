/* record.c - Record: arrays that alias the file. */
#include "record.h"

#include <structmember.h>

#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#include <numpy/arrayobject.h>

PyTypeObject *mapix_record_type;

static PyObject *array_at(file_object *file, uint64_t at, int ndim, npy_intp *shape, npy_intp *steps) {
    PyObject *owner = memory_of(file);
    if (!owner) {
        return NULL;
    }
    /* Without NPY_ARRAY_WRITEABLE, and over a buffer that is read-only: it cannot be switched on. */
    PyObject *made = PyArray_NewFromDescr(&PyArray_Type, PyArray_DescrFromType(NPY_UINT8), ndim,
                                          shape, steps, file->base + at, 0, NULL);
    if (!made) {
        Py_DECREF(owner);
    } else if (PyArray_SetBaseObject((PyArrayObject *)made, owner) < 0) { /* takes the reference */
        Py_CLEAR(made);
    }
    return made;
}

static uint64_t image_at(const record_object *self) {
    const uint64_t before = before_image(self->file->index.head_nbytes, entry_n(&self->entry));
    return entry_at(&self->entry) + before;
}

static PyObject *record_image(record_object *self, void *Py_UNUSED(closure)) {
    const mapix_entry *e = &self->entry;
    const npy_intp h = e->h, w = e->w, c = e->c;
    npy_intp shape[3] = {h, w, c}, planar[3] = {w, 1, h * w}, interleaved[3] = {w * c, c, 1};
    return array_at(self->file, image_at(self), 3, shape, self->file->index.interleaved ? interleaved : planar);
}

/* closure: null for ids, else for codes */
static PyObject *record_labels(record_object *self, void *closure) {
    const uint32_t head = self->file->index.head_nbytes;
    if (!head) { /* bare images: the labels lie elsewhere */
        return ready(self->file)
                   ? NULL
                   : PyObject_CallMethod((PyObject *)self->file, "labels_beside", "Oi", self, !!closure);
    }
    npy_intp n = entry_n(&self->entry), step = 2;
    return array_at(self->file, entry_at(&self->entry) + head + 1 + (closure ? 1 : 0), 1, &n, &step);
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
    if (!self->file->index.head_nbytes) {
        PyObject *ids = record_labels(self, NULL);
        const Py_ssize_t n = ids ? PyObject_Size(ids) : -1;
        Py_XDECREF(ids);
        return n < 0 ? NULL : PyLong_FromSsize_t(n);
    }
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

/* A label of a record in a dict: its code, or its value. */
static int put_label(file_object *file, PyObject *found, const uint8_t *pair, int values) {
    PyObject *head = mapix_head(file, pair[0]);
    if (!head) {
        return -1;
    }
    PyObject *value = values ? Py_NewRef(PyTuple_GetItem(PyTuple_GetItem(head, 1), pair[1]))
                             : PyLong_FromLong(pair[1]);
    const int failed = !value || PyDict_SetItem(found, PyTuple_GetItem(head, 0), value) < 0;
    Py_XDECREF(value);
    return failed ? -1 : 0;
}

/* The labels by name, or null with an exception.  closure: the method of Gatherer for records whose labels lie
 * elsewhere, and for files that changed */
static PyObject *dict_of(record_object *self, void *closure, int values) {
    file_object *file = self->file;
    if (ready(file)) {
        return NULL;
    }
    const uint32_t head = file->index.head_nbytes;
    const unsigned n = entry_n(&self->entry);
    uint8_t pairs[2 * UINT8_MAX];
    int failed = !head;
    if (head && n) {
        failed = mapix_copied(file, entry_at(&self->entry) + head + 1, 2 * n, pairs);
    }
    if (failed) {
        return failed < 0 ? NULL : record_by_file(self, closure);
    }
    PyObject *found = PyDict_New();
    for (unsigned k = 0; found && k < n; k++) {
        if (put_label(file, found, &pairs[2 * k], values)) {
            Py_CLEAR(found);
        }
    }
    return found;
}

static PyObject *record_codes(record_object *self, void *closure) {
    return dict_of(self, closure, 0);
}

static PyObject *record_values(record_object *self, void *closure) {
    return dict_of(self, closure, 1);
}

static PyObject *record_repr(record_object *self) {
    return record_by_file(self, "repr_of");
}

static PyObject *record_html(record_object *self, PyObject *Py_UNUSED(ignored)) {
    return record_by_file(self, "html_of");
}

/* Called by numpy with the dtype and copy that a user asked for. */
static PyObject *record_array(record_object *self, PyObject *arguments, PyObject *options) {
    PyObject *method = PyObject_GetAttrString((PyObject *)self->file, "array_of");
    PyObject *record = method ? PyTuple_Pack(1, self) : NULL;
    PyObject *all = record ? PySequence_Concat(record, arguments) : NULL;
    PyObject *found = all ? PyObject_Call(method, all, options) : NULL;
    Py_XDECREF(all);
    Py_XDECREF(record);
    Py_XDECREF(method);
    return found;
}

static PyMethodDef record_methods[] = {
    {"__array__", (PyCFunction)(void (*)(void))record_array, METH_VARARGS | METH_KEYWORDS,
     "Return the image, for numpy.asarray(record)."},
    {"_repr_html_", (PyCFunction)record_html, METH_NOARGS, "Return what notebooks show."},
    {NULL, NULL, 0, NULL},
};

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
    {"labels", (getter)record_codes, NULL,
     "Name -> code (0..255).  Of an id that appears twice the last one counts.", "labels_of"},
    {"values", (getter)record_values, NULL,
     "Name -> value in physical units; codes themselves where the range is not known.",
     "values_of"},
    {"spec_range", (getter)record_by_file, NULL,
     "(spec_min, spec_max) of the record; None in the 6-byte dialect, which has none.",
     "spec_range_of"},
    {"decibels", (getter)record_by_file, NULL,
     "The image in dB by its spec_range, float32 (h, w, c), a copy; UnsupportedError without one.",
     "decibels_of"},
    {NULL, NULL, NULL, NULL, NULL},
};

static const char record_doc[] =
    "One image and its labels, looked at where they lie in the file.\n\n"
    "Nothing is read until an attribute is asked for.  ``image``, ``label_bytes`` and ``label_ids``\n"
    "are read-only views; the other attributes are small copies, taken under the guard against\n"
    "files that shrink.\n\n"
    "Copies: none.  Lifetime: views outlive the record, the dataset and ``close()``.\n"
    "Threads: any number.  Cost: O(1).";

static PyType_Slot record_slots[] = {
    {Py_tp_members, record_members},
    {Py_tp_getset, record_getset},
    {Py_tp_methods, record_methods},
    {Py_tp_repr, (void *)record_repr},
    {Py_tp_doc, (void *)record_doc},
    {Py_tp_dealloc, (void *)record_dealloc},
    {0, NULL},
};

/* Not tracked by the collector: its one reference goes to a File, which refers to no records. */
static PyType_Spec record_spec = {
    "mapix.vimh.Record", sizeof(record_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    record_slots};

int mapix_add_record(PyObject *module) {
    import_array1(-1);
    mapix_record_type = mapix_add_type(module, "Record", &record_spec);
    return mapix_record_type ? 0 : -1;
}
