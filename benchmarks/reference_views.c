/* reference_views.c - two views a record from a C type: as fast as numpy arrays can be made.
 *
 * Reader(buffer, entries, stride).get(i) -> (image (c, h, w), labels (n,)).  entries is a buffer of
 * 16-byte entries (see reference.c); or with stride > 0, one entry for all.  Nothing is checked. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <numpy/arrayobject.h>
#include <stdint.h>

enum { HEAD = 15 };

typedef struct {
    uint64_t at;
    uint16_t h, w, c, n;
} entry;

typedef struct {
    PyObject_HEAD
    PyObject *owner;
    Py_buffer data, entries;
    Py_ssize_t stride;
} reader;

static PyObject *array_at(PyObject *owner, uint8_t *at, int ndim, npy_intp *shape,
                          npy_intp *steps) {
    PyArray_Descr *u8 = PyArray_DescrFromType(NPY_UINT8);
    PyObject *a = PyArray_NewFromDescr(&PyArray_Type, u8, ndim, shape, steps, at, 0, NULL);
    if (a && PyArray_SetBaseObject((PyArrayObject *)a, Py_NewRef(owner)) < 0) {
        Py_CLEAR(a);
    }
    return a;
}

static PyObject *reader_get(reader *self, PyObject *const *args, Py_ssize_t nargs) {
    const Py_ssize_t i = nargs == 1 ? PyLong_AsSsize_t(args[0]) : -1;
    if (i < 0) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "one index, not negative");
    }
    const entry *e = (const entry *)self->entries.buf + (self->stride ? 0 : i);
    const uint64_t from = self->stride ? (uint64_t)i * (uint64_t)self->stride : e->at;
    uint8_t *pairs = (uint8_t *)self->data.buf + from + HEAD;
    npy_intp shape[3] = {e->c, e->h, e->w}, n[1] = {e->n}, step[1] = {2};
    PyObject *labels = NULL, *both = NULL;
    PyObject *image = array_at(self->owner, pairs + 2 * e->n, 3, shape, NULL);
    if (image && (labels = array_at(self->owner, pairs + 1, 1, n, step))) {
        both = PyTuple_New(2);
    }
    if (!both) {
        Py_XDECREF(image);
        Py_XDECREF(labels);
        return NULL;
    }
    PyTuple_SET_ITEM(both, 0, image);
    PyTuple_SET_ITEM(both, 1, labels);
    return both;
}

static int reader_init(reader *self, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
    PyObject *owner, *entries;
    if (!PyArg_ParseTuple(args, "OOn", &owner, &entries, &self->stride) ||
        PyObject_GetBuffer(owner, &self->data, PyBUF_SIMPLE) < 0 ||
        PyObject_GetBuffer(entries, &self->entries, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    self->owner = Py_NewRef(owner);
    return 0;
}

static void reader_dealloc(reader *self) {
    Py_XDECREF(self->owner);
    PyBuffer_Release(&self->data);
    PyBuffer_Release(&self->entries);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef methods[] = {
    {"get", (PyCFunction)(void (*)(void))reader_get, METH_FASTCALL, NULL}, {NULL, NULL, 0, NULL}};

static PyTypeObject reader_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "reference_views.Reader",
    .tp_basicsize = sizeof(reader),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)reader_init,
    .tp_dealloc = (destructor)reader_dealloc,
    .tp_methods = methods,
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "reference_views", .m_size = -1};

PyMODINIT_FUNC PyInit_reference_views(void) {
    import_array();
    PyObject *m = PyType_Ready(&reader_type) < 0 ? NULL : PyModule_Create(&module);
    if (m && PyModule_AddObjectRef(m, "Reader", (PyObject *)&reader_type) < 0) {
        Py_CLEAR(m);
    }
    return m;
}
