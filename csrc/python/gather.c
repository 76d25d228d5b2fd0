/* gather.c - gather(): the arrays of one batch, made and filled in one call; and positions().
 *
 * _slowly in src/mapix/batch.py does the same in Python.  Addresses come as integers, and their owners are kept
 * alive by the caller, but for the map, which another thread may replace: it comes with its owner.
 */
#include "arrays.h"

enum { FUNCTION, MAP, INDEX, TEMPLATE, ROWS, IMAGES, H, W, OFFSETS, SHAPES, SPEC, THREADS, PROBE,
       NARGS };

typedef struct {
    PyObject *images, *labels, *present, *shapes, *spec;
} outputs;

static void drop(outputs *out) {
    Py_CLEAR(out->images);
    Py_CLEAR(out->labels);
    Py_CLEAR(out->present);
    Py_CLEAR(out->shapes);
    Py_CLEAR(out->spec);
}

/* An array of n int64 in a row: its data, or null with an exception. */
static const int64_t *numbers_of(PyObject *array, npy_intp *n) {
    PyArrayObject *a = (PyArrayObject *)array;
    if (!PyArray_Check(array) || PyArray_NDIM(a) != 1 || !PyArray_ISCARRAY_RO(a) ||
        PyArray_ITEMSIZE(a) != 8 || !PyArray_ISSIGNED(a)) {
        PyErr_SetString(PyExc_TypeError, "numbers must be a contiguous int64 array");
        return NULL;
    }
    *n = PyArray_DIM(a, 0);
    return PyArray_DATA(a);
}

/* The images: an array that was given, or a new one of the shape that was given. */
static PyObject *images_of(PyObject *given, uint32_t dtype) {
    static const int types[3] = {NPY_UINT8, NPY_FLOAT32, NPY_FLOAT16};
    if (PyArray_Check(given)) {
        if (!PyArray_ISCARRAY((PyArrayObject *)given)) {
            PyErr_SetString(PyExc_ValueError, "out must be C-contiguous and writable");
            return NULL;
        }
        return Py_NewRef(given);
    }
    npy_intp dims[4];
    const Py_ssize_t ndim = PyTuple_Size(given);
    if (ndim < 1 || ndim > 4 || dtype > 2) {
        PyErr_SetString(PyExc_ValueError, "images must be an array or its shape");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < ndim; i++) {
        dims[i] = PyLong_AsSsize_t(PyTuple_GetItem(given, i));
        if (dims[i] == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    return PyArray_SimpleNew((int)ndim, dims, types[dtype]);
}

static uint32_t u32_of(PyObject *number) {
    const unsigned long found = PyLong_AsUnsignedLong(number);
    if (found > UINT32_MAX && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_OverflowError, "number too large");
    }
    return (uint32_t)found;
}

/* Make what the order wants, and put it into the order.  0, or -1 with an exception. */
static int make_outputs(outputs *out, mapix_gather *g, npy_intp b, PyObject *const *args) {
    const npy_intp ncolumns = g->ncolumns;
    out->images = images_of(args[IMAGES], g->dtype);
    if (g->columns) {
        out->labels = table_of(b, ncolumns, NPY_UINT8);
        out->present = table_of(b, ncolumns, NPY_BOOL);
    }
    out->shapes = Py_IsTrue(args[SHAPES]) ? table_of(b, 3, NPY_UINT16) : NULL;
    out->spec = Py_IsTrue(args[SPEC]) ? table_of(b, 2, NPY_FLOAT32) : NULL;
    if (PyErr_Occurred()) {
        return -1;
    }
    g->images = data_of(out->images);
    g->images_nbytes = (uint64_t)PyArray_NBYTES((PyArrayObject *)out->images);
    g->labels = ncolumns ? data_of(out->labels) : NULL;
    g->present = ncolumns ? data_of(out->present) : NULL;
    g->shapes = data_of(out->shapes);
    g->spec_range = data_of(out->spec);
    return 0;
}

static PyObject *or_none(PyObject *array) {
    return array ? array : Py_NewRef(Py_None);
}

/* gather(function, (owner, map), index, template, rows, images, h, w, offsets, shapes, spec,
 *        threads, probe) -> (images, labels, present, shapes, spec, nasked), or when it did not go
 * well (status, record, at, expected, got) */
static PyObject *gather(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != NARGS || !PyTuple_Check(args[MAP]) || PyTuple_Size(args[MAP]) != 2) {
        PyErr_SetString(PyExc_TypeError, "gather: see batch.py");
        return NULL;
    }
    const gather_function run = (gather_function)(uintptr_t)PyLong_AsVoidPtr(args[FUNCTION]);
    const mapix_map *map = PyLong_AsVoidPtr(PyTuple_GetItem(args[MAP], 1));
    const mapix_table *index = PyLong_AsVoidPtr(args[INDEX]);
    const mapix_gather *template = PyLong_AsVoidPtr(args[TEMPLATE]);
    npy_intp b = 0, noffsets = 0;
    const int64_t *rows = numbers_of(args[ROWS], &b);
    if (!rows || !run || !map || !index || !template) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "an address is null");
        }
        return NULL;
    }
    mapix_gather order = *template;
    uint64_t nasked = 0;
    order.h = u32_of(args[H]);
    order.w = u32_of(args[W]);
    order.nthreads = u32_of(args[THREADS]);
    order.probe = u32_of(args[PROBE]);
    order.nasked = &nasked;
    if (args[OFFSETS] != Py_None) {
        order.flat_at = (const uint64_t *)numbers_of(args[OFFSETS], &noffsets);
    }
    if (!PyErr_Occurred() && order.flat_at && noffsets != b + 1) {
        PyErr_SetString(PyExc_ValueError, "offsets must be one more than rows");
    }
    outputs out = {0};
    if (PyErr_Occurred() || make_outputs(&out, &order, b, args)) {
        drop(&out);
        return NULL;
    }
    mapix_where where = {0};
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = run(map, index, rows, (uint64_t)b, &order, &where);
    Py_END_ALLOW_THREADS
    if (status) {
        drop(&out);
        return Py_BuildValue("iKKKK", status, (unsigned long long)where.record,
                             (unsigned long long)where.at, (unsigned long long)where.expected,
                             (unsigned long long)where.got);
    }
    return Py_BuildValue("NNNNNK", out.images, or_none(out.labels), or_none(out.present),
                         or_none(out.shapes), or_none(out.spec), (unsigned long long)nasked);
}

/* positions(key, n) -> indices in 0..n-1 as a new int64 array, where key is an array of int64 in range;
 * else None, and selection.py finds out what it is. */
static PyObject *positions(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    const long long n = nargs == 2 ? PyLong_AsLongLong(args[1]) : -1;
    if (n < 0) {
        PyErr_SetString(PyExc_TypeError, "positions: see selection.py");
        return NULL;
    }
    PyArrayObject *key = (PyArrayObject *)args[0];
    if (!PyArray_CheckExact(args[0]) || PyArray_NDIM(key) != 1 || !PyArray_ISCARRAY_RO(key) ||
        PyArray_TYPE(key) != NPY_INT64) {
        Py_RETURN_NONE;
    }
    PyObject *made = PyArray_NewCopy(key, NPY_CORDER);
    if (!made) {
        return NULL;
    }
    int64_t *numbers = PyArray_DATA((PyArrayObject *)made);
    const npy_intp count = PyArray_DIM((PyArrayObject *)made, 0);
    uint64_t wrong = 0;
    for (npy_intp i = 0; i < count; i++) {
        numbers[i] += numbers[i] < 0 ? n : 0;
        wrong |= (uint64_t)numbers[i] >= (uint64_t)n;
    }
    if (wrong) {
        Py_DECREF(made);
        Py_RETURN_NONE;
    }
    return made;
}

static PyMethodDef positions_def = {"positions", (PyCFunction)(void (*)(void))positions, METH_FASTCALL,
                                    "Indices in range as a new array, or None."};

static PyMethodDef gather_def = {"gather", (PyCFunction)(void (*)(void))gather, METH_FASTCALL,
                                 "The arrays of one batch, made and filled in one call."};

int mapix_add_gather(PyObject *module) {
    import_array1(-1);
    return mapix_add_function(module, &gather_def) || mapix_add_function(module, &positions_def) ? -1 : 0;
}
