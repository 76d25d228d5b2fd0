/* module.c - Rows: one record by its number; and the module itself. */
#include "record.h"

#include <limits.h>

typedef struct {
    PyObject_HEAD
    file_object *file;
    Py_buffer numbers; /* int64: the record of each row; without it start + row * step */
    long long n, start, step;
} rows_object;

static long long number(const Py_buffer *numbers, long long row) {
    int64_t found;
    memcpy(&found, (const char *)numbers->buf + row * numbers->strides[0], sizeof found);
    return found;
}

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
            row = self->numbers.obj ? number(&self->numbers, row) : self->start + row * self->step;
            if (MAPIX_UNLIKELY(ready(file))) {
                return NULL;
            }
            if (MAPIX_LIKELY(row >= 0 && (uint64_t)row < file->index.nrecords)) {
                return mapix_record_at(file, (uint64_t)row);
            }
            return PyErr_Format(PyExc_IndexError, "record %lld of %llu", row,
                                (unsigned long long)file->index.nrecords);
        }
    }
    return PyObject_CallMethod((PyObject *)self, "_pick", "(O)", key);
}

/* _bind(file, n, start, step, numbers): row i is record numbers[i], or start + i * step. */
static PyObject *rows_bind(rows_object *self, PyObject *args) {
    PyObject *file, *numbers;
    long long n, start, step;
    if (!PyArg_ParseTuple(args, "O!LLLO", mapix_file_type, &file, &n, &start, &step, &numbers)) {
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
    } else if (PyObject_GetBuffer(numbers, &self->numbers, PyBUF_STRIDES) < 0) {
        return NULL;
    } else if (self->numbers.ndim != 1 || self->numbers.itemsize != (Py_ssize_t)sizeof(int64_t) ||
               self->numbers.shape[0] != n) {
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

/* --- the module ------------------------------------------------------------------------------- */

PyTypeObject *mapix_add_type(PyObject *module, const char *name, PyType_Spec *spec) {
    PyObject *type = PyType_FromSpec(spec);
    if (type && PyModule_AddObjectRef(module, name, type) < 0) {
        Py_CLEAR(type);
    }
    if (type && WITHOUT_GIL) { /* immortal: threads that make objects of it would wait for one another to count them */
        Py_SET_REFCNT(type, PY_SSIZE_T_MAX);
    }
    return (PyTypeObject *)type;
}

int mapix_add_function(PyObject *module, PyMethodDef *def) {
    PyObject *made = PyCFunction_NewEx(def, NULL, NULL);
    const int failed = !made || PyModule_AddObjectRef(module, def->ml_name, made) < 0;
    Py_XDECREF(made);
    return failed ? -1 : 0;
}

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "mapix._record", "ds[i] and its views, in C.", -1, NULL, NULL, NULL, NULL,
    NULL};

PyMODINIT_FUNC PyInit__record(void);
PyMODINIT_FUNC PyInit__record(void) {
    PyObject *made = PyModule_Create(&module);
#ifdef Py_GIL_DISABLED
    if (made && PyUnstable_Module_SetGIL(made, Py_MOD_GIL_NOT_USED) < 0) {
        Py_CLEAR(made);
    }
#endif
    if (made && (mapix_add_file(made) || mapix_add_record(made) || mapix_add_gather(made) ||
                 mapix_add_pack(made) || mapix_add_prepared(made) || mapix_add_archive(made) ||
                 mapix_add_segment_buffer(made) || mapix_add_memory(made) ||
                 !mapix_add_type(made, "Rows", &rows_spec))) {
        Py_CLEAR(made);
    }
    return made;
}
