/* prepared.c - Prepared: the batches of one set of options, each made by one call.
 *
 * Base class of Prepared in src/mapix/batch.py.  `made` takes the usual arguments alone.  For all others, and if the
 * file cannot be read, it returns None: then Python does the same by gather(), which raises.  `loaded` does both.
 */
#include "arrays.h"

enum { MOST_DIMS = 8, NFIELDS = 10 };

/* The fields of a Batch, in the order of `finish`. */
static const char *const field_names[NFIELDS] = {"images", "labels", "present", "shapes", "spec_range",
                                                 "offsets", "names", "rows", "shares", "partners"};
static PyObject *fields[NFIELDS];
static descrsetfunc set_field;
static PyTypeObject *batch_type;

/* Labels that lie in a file of their own, and were loaded: a row of each record. */
typedef struct {
    PyObject *values; /* array, or null */
    PyObject *source; /* whose file must not have changed */
} labels_apart;

typedef struct {
    PyObject_HEAD
    PyObject *keep;    /* owns what `index` and `order` point to */
    PyObject *source;  /* the file: its `mapping` is the map */
    PyObject *names;
    PyArray_Descr *dtype; /* of images; null until `_bind` */
    gather_function run;
    check_function check;
    const mapix_table *index;
    mapix_gather order; /* without what differs from batch to batch */
    npy_intp dims[MOST_DIMS]; /* of an image, from the second on */
    int ndim;                 /* of a batch of images; with `flat` its images are in one row */
    npy_intp nbytes;          /* of an image in flat batches; else 0 */
    int spec;
    PyObject *record; /* uint16 (3,): the shape of all records; or None */
    PyObject *shapes; /* of the last batch, if all are alike */
    labels_apart apart;
    unsigned few, many, most_skipped; /* see Lookout in batch.py; 0: records are not asked for */
    unsigned gap, skip;
    PyObject *table, *missing; /* (ncolumns, 256), value of each code, and (1,); or None */
} prepared_object;

/* --- parts of a batch --------------------------------------------------------------------------- */

static int find_fields(PyObject *type) {
    PyObject *found[NFIELDS] = {NULL};
    for (int k = 0; k < NFIELDS; k++) {
        found[k] = PyObject_GetAttrString(type, field_names[k]);
        if (!found[k] || (k && Py_TYPE(found[k]) != Py_TYPE(found[0]))) {
            PyErr_SetString(PyExc_TypeError, "Batch: its fields must be slots");
            return -1; /* programming error: what was found is not released */
        }
    }
    set_field = (descrsetfunc)PyType_GetSlot(Py_TYPE(found[0]), Py_tp_descr_set);
    memcpy(fields, found, sizeof fields);
    PUBLISH(batch_type, (PyTypeObject *)Py_NewRef(type));
    return 0;
}

/* A Batch of its first seven fields, whose references are taken. */
static PyObject *finish(PyObject *values[NFIELDS]) {
    const allocfunc alloc = (allocfunc)PyType_GetSlot(batch_type, Py_tp_alloc);
    PyObject *batch = alloc(batch_type, 0);
    for (int k = 0; k < NFIELDS; k++) {
        if (batch && set_field(fields[k], batch, values[k] ? values[k] : Py_None)) {
            Py_CLEAR(batch);
        }
        Py_CLEAR(values[k]);
    }
    return batch;
}

enum { MAPPING, HELD_MAPPING, LOCATED, HELD_LOCATED, NNAMES };
static PyObject *attribute_names[NNAMES];

/* What the property `name` gives: where the attribute that it reads is None, it makes it, or raises. */
static PyObject *attribute(PyObject *of, int name) {
    PyObject *found = PyObject_GetAttr(of, attribute_names[name + 1]);
    if (found == Py_None) {
        Py_DECREF(found);
        found = PyObject_GetAttr(of, attribute_names[name]);
    }
    return found;
}

/* A map while it is used: another thread may close the source, which unmaps the file, or replace the map. */
typedef struct {
    PyObject *mapping; /* owns the memory */
    PyObject *located; /* (owner of the map, its address) */
} held;

/* The map of a source; null with an exception.  To be released in both cases. */
static const mapix_map *hold_map(PyObject *source, held *h) {
    h->mapping = attribute(source, MAPPING);
    h->located = h->mapping ? attribute(h->mapping, LOCATED) : NULL;
    PyObject *address = h->located ? PyTuple_GetItem(h->located, 1) : NULL;
    const mapix_map *map = address ? PyLong_AsVoidPtr(address) : NULL;
    if (!map && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "an address is null");
    }
    return map;
}

static void release_map(held *h) {
    Py_XDECREF(h->located);
    Py_XDECREF(h->mapping);
}

/* The images: what was given, or new; null without an exception if what was given is not as usual. */
static PyObject *images_of(const prepared_object *self, npy_intp b, PyObject *given) {
    npy_intp dims[MOST_DIMS];
    memcpy(dims, self->dims, sizeof dims);
    dims[0] = self->nbytes ? b * self->nbytes : b;
    if (given == Py_None) {
        return PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)Py_NewRef((PyObject *)self->dtype),
                                    self->ndim, dims, NULL, NULL, 0, NULL);
    }
    PyArrayObject *a = (PyArrayObject *)given;
    const int usual = PyArray_CheckExact(given) && PyArray_ISCARRAY(a) && PyArray_NDIM(a) == self->ndim &&
                      PyArray_CompareLists(PyArray_DIMS(a), dims, self->ndim) &&
                      PyArray_EquivTypes(PyArray_DESCR(a), self->dtype);
    return usual ? Py_NewRef(given) : NULL;
}

/* The one shape of all records, b times: the last one again, if it has the length. */
static PyObject *shapes_of(prepared_object *self, npy_intp b) {
    PyObject *known;
    Py_BEGIN_CRITICAL_SECTION(self);
    known = Py_XNewRef(self->shapes);
    Py_END_CRITICAL_SECTION();
    if (known && PyArray_DIM((PyArrayObject *)known, 0) == b) {
        return known;
    }
    Py_XDECREF(known);
    npy_intp dims[2] = {b, 3}, strides[2] = {0, sizeof(uint16_t)};
    PyObject *made = PyArray_New(&PyArray_Type, 2, dims, NPY_UINT16, strides, data_of(self->record), 0,
                                 NPY_ARRAY_ALIGNED, NULL);
    if (!made || PyArray_SetBaseObject((PyArrayObject *)made, Py_NewRef(self->record))) {
        Py_XDECREF(made);
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    known = self->shapes;
    self->shapes = Py_NewRef(made);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(known);
    return made;
}

/* Where each image of a flat batch begins. */
static PyObject *offsets_of(const prepared_object *self, npy_intp b) {
    npy_intp n = b + 1;
    PyObject *made = PyArray_SimpleNew(1, &n, NPY_INT64);
    int64_t *to = data_of(made);
    for (npy_intp i = 0; made && i < n; i++) {
        to[i] = i * self->nbytes;
    }
    return made;
}

/* Replace codes by their values. */
static int translate(const prepared_object *self, npy_intp b, PyObject *codes[2]) {
    PyArrayObject *table = (PyArrayObject *)self->table;
    const size_t item = (size_t)PyArray_ITEMSIZE(table), ncolumns = (size_t)PyArray_DIM(table, 0);
    PyObject *made = table_of(b, (npy_intp)ncolumns, PyArray_TYPE(table));
    if (!made) {
        return -1;
    }
    char *to = data_of(made);
    const char *from = data_of(self->table), *missing = data_of(self->missing);
    const uint8_t *code = data_of(codes[0]), *there = data_of(codes[1]);
    for (size_t i = 0; i < (size_t)b * ncolumns; i++, to += item) {
        const char *value = there[i] ? from + (i % ncolumns * 256 + code[i]) * item : missing;
        if (item == 8) { /* a copy of a known size is a move */
            memcpy(to, value, 8);
        } else {
            memcpy(to, value, 4);
        }
    }
    Py_DECREF(codes[0]);
    codes[0] = made;
    return 0;
}

/* Labels and presence of records from their own file: 0; 1 if Python has to; -1 with an exception. */
static int labels_from_apart(const prepared_object *self, const int64_t *rows, npy_intp b,
                             PyObject *labels[2]) {
    PyArrayObject *values = (PyArrayObject *)self->apart.values;
    const uint64_t n = (uint64_t)PyArray_DIM(values, 0), nrecords = self->index->nrecords;
    const size_t size = n ? (size_t)(PyArray_NBYTES(values) / PyArray_DIM(values, 0)) : 0;
    npy_intp dims[MOST_DIMS];
    held h;
    const mapix_map *map = hold_map(self->apart.source, &h);
    const int moved = map && self->check(map);
    release_map(&h);
    if (!map || moved) {
        return map ? 1 : -1;
    }
    memcpy(dims, PyArray_DIMS(values), sizeof *dims * (size_t)PyArray_NDIM(values));
    dims[0] = b;
    labels[0] = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)Py_NewRef((PyObject *)PyArray_DESCR(values)),
                                     PyArray_NDIM(values), dims, NULL, NULL, 0, NULL);
    labels[1] = PyArray_SimpleNew(PyArray_NDIM(values), dims, NPY_BOOL);
    if (!labels[0] || !labels[1]) {
        return -1;
    }
    char *to = data_of(labels[0]);
    const char *from = data_of(self->apart.values);
    for (npy_intp i = 0; i < b; i++) {
        const uint64_t row = rows[i] < 0 ? (uint64_t)rows[i] + nrecords : (uint64_t)rows[i];
        if (row >= n) {
            return 1;
        }
        if (size == 1) {
            to[i] = from[row];
        } else if (size == 8) {
            memcpy(to + 8 * i, from + 8 * row, 8);
        } else {
            memcpy(to + size * (size_t)i, from + size * row, size);
        }
    }
    memset(data_of(labels[1]), 1, (size_t)PyArray_NBYTES((PyArrayObject *)labels[1]));
    return 0;
}

/* --- a batch ------------------------------------------------------------------------------------ */

enum { IMAGES, LABELS, PRESENT, SHAPES, SPEC, OFFSETS, NAMES, ROWS };

/* Make what the order wants, and put it into the order: 0; 1 if Python has to; -1 with an exception. */
static int make_outputs(prepared_object *self, npy_intp b, PyObject *given, mapix_gather *order,
                        PyObject *made[NFIELDS]) {
    const npy_intp ncolumns = order->ncolumns;
    made[IMAGES] = images_of(self, b, given);
    if (!made[IMAGES]) {
        return PyErr_Occurred() ? -1 : 1;
    }
    if (order->columns) {
        made[LABELS] = table_of(b, ncolumns, NPY_UINT8);
        made[PRESENT] = table_of(b, ncolumns, NPY_BOOL);
    }
    made[SHAPES] = self->record == Py_None ? table_of(b, 3, NPY_UINT16) : shapes_of(self, b);
    made[SPEC] = self->spec ? table_of(b, 2, NPY_FLOAT32) : NULL;
    made[OFFSETS] = self->nbytes ? offsets_of(self, b) : NULL;
    made[NAMES] = Py_NewRef(self->names);
    if (PyErr_Occurred()) {
        return -1;
    }
    order->images = data_of(made[IMAGES]);
    order->images_nbytes = (uint64_t)PyArray_NBYTES((PyArrayObject *)made[IMAGES]);
    order->labels = ncolumns ? data_of(made[LABELS]) : NULL;
    order->present = ncolumns ? data_of(made[PRESENT]) : NULL;
    order->shapes = self->record == Py_None ? data_of(made[SHAPES]) : NULL;
    order->spec_range = data_of(made[SPEC]);
    order->flat_at = data_of(made[OFFSETS]);
    return 0;
}

/* Gather into what was made: 0; 1 if Python has to; -1 with an exception. */
static int fill(prepared_object *self, const int64_t *rows, npy_intp b, mapix_gather *order) {
    uint64_t nasked = 0;
    held h;
    const mapix_map *map = hold_map(self->source, &h);
    if (!map) {
        release_map(&h);
        return -1;
    }
    /* Numbers that another thread may count at the same time: it then asks once too often. */
    const unsigned skip = PEEK(self->skip), gap = PEEK(self->gap);
    order->probe = skip ? 0 : gap ? self->few : self->many;
    order->nasked = &nasked;
    mapix_where where;
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = self->run(map, self->index, rows, (uint64_t)b, order, &where);
    Py_END_ALLOW_THREADS
    release_map(&h);
    if (order->probe) {
        const unsigned more = nasked ? 0 : 2 * gap + 1 < self->most_skipped ? 2 * gap + 1 : self->most_skipped;
        POKE(self->gap, more);
        POKE(self->skip, more);
    } else if (skip) {
        POKE(self->skip, skip - 1);
    }
    return status != MAPIX_OK;
}

/* made(rows, out): a Batch, or None. */
static PyObject *prepared_made(prepared_object *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 2) {
        return PyErr_Format(PyExc_TypeError, "made takes 2 arguments, got %zd", nargs);
    }
    PyArrayObject *rows = (PyArrayObject *)args[0];
    if (!self->dtype || !PyArray_CheckExact(args[0]) || PyArray_NDIM(rows) != 1 ||
        !PyArray_EquivTypenums(PyArray_TYPE(rows), NPY_INT64) || !PyArray_ISCARRAY_RO(rows)) {
        Py_RETURN_NONE;
    }
    const npy_intp b = PyArray_DIM(rows, 0);
    const int64_t *numbers = PyArray_DATA(rows);
    if (self->nbytes && b > NPY_MAX_INTP / self->nbytes) {
        Py_RETURN_NONE;
    }
    PyObject *made[NFIELDS] = {NULL};
    mapix_gather order = self->order;
    int done = make_outputs(self, b, args[1], &order, made);
    done = done ? done : fill(self, numbers, b, &order);
    if (!done && self->apart.values) {
        done = labels_from_apart(self, numbers, b, made + LABELS);
    }
    if (!done && self->table != Py_None) {
        done = translate(self, b, made + LABELS);
    }
    if (!done) {
        return finish(made);
    }
    for (int k = 0; k < NFIELDS; k++) {
        Py_XDECREF(made[k]);
    }
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

/* loaded(rows, out): a Batch that has its rows. */
static PyObject *prepared_loaded(prepared_object *self, PyObject *const *args, Py_ssize_t nargs) {
    PyObject *batch = prepared_made(self, args, nargs);
    if (batch == Py_None) {
        Py_DECREF(batch);
        batch = PyObject_CallMethod((PyObject *)self, "gather", "OO", args[0], args[1]);
    }
    if (batch && set_field(fields[ROWS], batch, args[0])) {
        Py_CLEAR(batch);
    }
    return batch;
}

/* --- what is known before ----------------------------------------------------------------------- */

/* An array that `translate` and `shapes_of` may read: of this shape, contiguous. */
static int is_array(PyObject *given, int ndim, npy_intp first, npy_intp last) {
    PyArrayObject *a = (PyArrayObject *)given;
    return PyArray_Check(given) && PyArray_NDIM(a) == ndim && PyArray_ISCARRAY_RO(a) &&
           PyArray_DIM(a, 0) == first && (ndim == 1 || PyArray_DIM(a, 1) == last);
}

/* _bind(Batch, (gather, check), keep, (index, order), source, (few, many, most), dtype, (h, w, threads), shape,
 *       flat nbytes, spec, record, names, (labels, their source), (table, missing)) */
static PyObject *prepared_bind(prepared_object *self, PyObject *args) {
    PyObject *type, *keep, *source, *dtype, *shape, *record, *names, *values, *apart, *table, *missing;
    unsigned long long run, check, index, order;
    unsigned h, w, threads, few, many, most;
    Py_ssize_t nbytes;
    int spec;
    if (!PyArg_ParseTuple(args, "O(KK)O(KK)O(III)O(III)O!npOO!(OO)(OO):_bind", &type, &run, &check, &keep, &index, &order,
                          &source, &few, &many, &most, &dtype, &h, &w, &threads, &PyTuple_Type, &shape, &nbytes,
                          &spec, &record, &PyTuple_Type, &names, &values, &apart, &table, &missing)) {
        return NULL;
    }
    const mapix_gather *template = (const mapix_gather *)(uintptr_t)order;
    const Py_ssize_t ndim = nbytes ? 1 : 1 + PyTuple_Size(shape);
    PyArrayObject *labels = (PyArrayObject *)values;
    if (self->dtype || !PyArray_DescrCheck(dtype) || nbytes < 0 || !run || !check || !index || !template ||
        (record != Py_None && (!is_array(record, 1, 3, 0) || PyArray_TYPE((PyArrayObject *)record) != NPY_UINT16)) ||
        (values != Py_None && !(PyArray_Check(values) && PyArray_NDIM(labels) && PyArray_ISCARRAY_RO(labels))) ||
        (table != Py_None && (!is_array(table, 2, template->ncolumns, 256) || !is_array(missing, 1, 1, 0) ||
                              !PyArray_EquivTypes(PyArray_DESCR((PyArrayObject *)table),
                                                  PyArray_DESCR((PyArrayObject *)missing)) ||
                              (PyArray_ITEMSIZE((PyArrayObject *)table) != 4 &&
                               PyArray_ITEMSIZE((PyArrayObject *)table) != 8)))) {
        PyErr_SetString(PyExc_ValueError, "_bind: see batch.py");
        return NULL;
    }
    int failed = 0;
    if (!KNOWN(batch_type)) {
        Py_BEGIN_CRITICAL_SECTION(type);
        failed = !batch_type && find_fields(type);
        Py_END_CRITICAL_SECTION();
    }
    if (failed || ndim > MOST_DIMS ||
        (values != Py_None && PyArray_NDIM(labels) > MOST_DIMS)) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None); /* `made` leaves all batches to Python */
    }
    for (Py_ssize_t k = 1; k < ndim; k++) {
        self->dims[k] = PyLong_AsSsize_t(PyTuple_GetItem(shape, k - 1));
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    self->ndim = (int)ndim;
    self->nbytes = nbytes;
    self->spec = spec;
    self->run = (gather_function)(uintptr_t)run;
    self->check = (check_function)(uintptr_t)check;
    self->index = (const mapix_table *)(uintptr_t)index;
    self->order = *template;
    self->order.h = h;
    self->order.w = w;
    self->order.nthreads = threads;
    self->keep = Py_NewRef(keep);
    self->source = Py_NewRef(source);
    self->few = few;
    self->many = many;
    self->most_skipped = most;
    self->names = Py_NewRef(names);
    self->record = Py_NewRef(record);
    self->apart.values = values == Py_None ? NULL : Py_NewRef(values);
    self->apart.source = Py_NewRef(apart);
    self->table = Py_NewRef(table);
    self->missing = Py_NewRef(missing);
    self->dtype = (PyArray_Descr *)Py_NewRef(dtype);
    Py_RETURN_NONE;
}

static int prepared_traverse(prepared_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->keep);
    Py_VISIT(self->source);
    Py_VISIT(self->apart.source);
    return 0;
}

static int prepared_clear(prepared_object *self) {
    Py_CLEAR(self->dtype); /* first: `made` makes nothing without it */
    Py_CLEAR(self->keep);
    Py_CLEAR(self->source);
    Py_CLEAR(self->names);
    Py_CLEAR(self->record);
    Py_CLEAR(self->shapes);
    Py_CLEAR(self->apart.values);
    Py_CLEAR(self->apart.source);
    Py_CLEAR(self->table);
    Py_CLEAR(self->missing);
    return 0;
}

static void prepared_dealloc(prepared_object *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    (void)prepared_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef prepared_methods[] = {
    {"_bind", (PyCFunction)prepared_bind, METH_VARARGS, NULL},
    {"made", (PyCFunction)(void (*)(void))prepared_made, METH_FASTCALL,
     "Return the batch of these rows, or None if Python has to make it."},
    {"loaded", (PyCFunction)(void (*)(void))prepared_loaded, METH_FASTCALL,
     "Return the batch of these rows, with its rows."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot prepared_slots[] = {
    {Py_tp_methods, prepared_methods},
    {Py_tp_traverse, (void *)prepared_traverse},
    {Py_tp_clear, (void *)prepared_clear},
    {Py_tp_dealloc, (void *)prepared_dealloc},
    {0, NULL},
};

static PyType_Spec prepared_spec = {
    "mapix._record.Prepared", sizeof(prepared_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, prepared_slots};

int mapix_add_prepared(PyObject *module) {
    import_array1(-1);
    static const char *const names[NNAMES] = {"mapping", "_mapping", "located", "_located"};
    for (int k = 0; k < NNAMES; k++) {
        attribute_names[k] = PyUnicode_InternFromString(names[k]);
        if (!attribute_names[k]) {
            return -1;
        }
    }
    return mapix_add_type(module, "Prepared", &prepared_spec) ? 0 : -1;
}
