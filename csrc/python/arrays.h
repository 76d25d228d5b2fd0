/* arrays.h - numpy's C API, as the files of mapix._record use it. */
#ifndef MAPIX_ARRAYS_H
#define MAPIX_ARRAYS_H

#include "record.h"

#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#include <numpy/arrayobject.h>

typedef int (*gather_function)(const mapix_map *, const mapix_table *, const int64_t *,
                               uint64_t, const mapix_gather *, mapix_where *);
typedef int (*check_function)(const mapix_map *);

/* A new array (b, columns). */
static inline PyObject *table_of(npy_intp b, npy_intp columns, int type) {
    npy_intp dims[2] = {b, columns};
    return PyArray_SimpleNew(2, dims, type);
}

static inline void *data_of(PyObject *array) {
    return array ? PyArray_DATA((PyArrayObject *)array) : NULL;
}

#endif
