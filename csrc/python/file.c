/* file.c - File: where the records of a file are. */
#include "record.h"

#include <stdlib.h>

/* Entries of a stored table that were confirmed, by the low bits of their row; `reserved` holds
 * the row's high bits plus one.  From 1 KiB to 4 MiB, as records are used, however many there are;
 * with the most bits, rows up to 2^34 can be kept. */
enum { KNOWN_LEAST_BITS = 6, KNOWN_MOST_BITS = 18, KNOWN_MOST_TAG = 0xFFFF };

PyTypeObject *mapix_file_type;

/* Twice: another thread may close the file after the first time, and the second one raises. */
int mapix_make_ready(file_object *self) {
    for (int k = 0; k < 2; k++) {
        PyObject *done = PyObject_CallMethod((PyObject *)self, "_ready", NULL);
        if (!done) {
            return -1;
        }
        Py_DECREF(done);
        if (KNOWN(self->data.obj)) {
            return 0;
        }
    }
    PyErr_SetString(PyExc_RuntimeError, "_ready() has not attached the file");
    return -1;
}

static int in_bounds(const file_object *self, const mapix_entry *e) {
    const uint64_t at = entry_at(e);
    return at <= self->nbytes && size_of(self, e) <= self->nbytes - at;
}

/* Find the entry by way of Python, which raises the exception if it is wrong. */
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
    const mapix_map map = {.base = self->base, .nbytes = self->nbytes, .fd = -1};
    PyObject *owner = memory_of(self); /* another thread may close the file meanwhile */
    if (!owner) {
        PyErr_Clear(); /* `_find` raises it again */
        return MAPIX_E_CHANGED;
    }
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

/* Ask the subclass for the map: it is another one after a harmless change of the file. */
static int locate(file_object *self) {
    PyObject *found = PyObject_CallMethod((PyObject *)self, "_located", NULL), *owner;
    unsigned long long map, copy;
    const int parsed = found && PyArg_ParseTuple(found, "OKK", &owner, &map, &copy);
    if (parsed) {
        PyObject *before;
        Py_BEGIN_CRITICAL_SECTION(self);
        before = self->map_owner;
        self->map_owner = Py_NewRef(owner);
        self->map = (const mapix_map *)(uintptr_t)map;
        self->copy = (copy_function)(uintptr_t)copy;
        Py_END_CRITICAL_SECTION();
        Py_XDECREF(before);
    }
    Py_XDECREF(found);
    return parsed ? 0 : -1;
}

static void forget_map(file_object *self, PyObject *owner) {
    PyObject *forgotten = NULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->map_owner == owner) {
        forgotten = owner;
        self->map_owner = NULL;
    }
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(forgotten);
}

int mapix_copied(file_object *self, uint64_t at, uint64_t nbytes, void *to) {
    /* Another thread may close the file, or replace the map, meanwhile. */
    PyObject *owner, *memory;
    const mapix_map *map;
    copy_function copy;
    for (;;) {
        Py_BEGIN_CRITICAL_SECTION(self);
        memory = Py_XNewRef(self->data.obj);
        owner = Py_XNewRef(self->map_owner);
        map = self->map;
        copy = self->copy;
        Py_END_CRITICAL_SECTION();
        if (MAPIX_LIKELY(memory && owner)) {
            break;
        }
        const int closed = !memory;
        Py_XDECREF(memory);
        Py_XDECREF(owner);
        if (closed || locate(self)) {
            return closed ? 1 : -1;
        }
    }
    mapix_where where;
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = copy(map, at, nbytes, to, &where);
    Py_END_ALLOW_THREADS
    if (MAPIX_UNLIKELY(status != MAPIX_OK)) {
        forget_map(self, owner);
    }
    Py_DECREF(owner);
    Py_DECREF(memory);
    return status != MAPIX_OK;
}

enum { NIDS = 256, NCODES = 256 };

/* Have the subclass make a head, and keep the first one that any thread has made: borrowed. */
static PyObject *make_head(file_object *self, uint8_t id) {
    PyObject *made = PyObject_CallMethod((PyObject *)self, "_head", "B", id), *kept = NULL;
    if (made && (!PyTuple_Check(made) || PyTuple_Size(made) != 2 ||
                 !PyTuple_Check(PyTuple_GetItem(made, 1)) ||
                 PyTuple_Size(PyTuple_GetItem(made, 1)) != NCODES)) {
        PyErr_SetString(PyExc_TypeError, "_head() must return a name and 256 values");
        Py_CLEAR(made);
    }
    if (!made) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (!self->heads) {
        PUBLISH(self->heads, PyMem_Calloc(NIDS, sizeof *self->heads));
    }
    if (self->heads && !self->heads[id]) {
        PUBLISH(self->heads[id], Py_NewRef(made));
    }
    kept = self->heads ? self->heads[id] : PyErr_NoMemory();
    Py_END_CRITICAL_SECTION();
    Py_DECREF(made);
    return kept;
}

PyObject *mapix_head(file_object *self, uint8_t id) {
    PyObject **heads = KNOWN(self->heads), *head = heads ? KNOWN(heads[id]) : NULL;
    return MAPIX_LIKELY(head != NULL) ? head : make_head(self, id);
}

static mapix_entry *known_slot(const file_object *self, uint64_t row) {
    return &PEEK(self->known)[row & ((UINT64_C(1) << PEEK(self->known_bits)) - 1)];
}

static uint64_t known_tag(const file_object *self, uint64_t row) {
    return (row >> self->known_bits) + 1;
}

static void keep(file_object *self, uint64_t row, const mapix_entry *e) {
    const uint64_t tag = known_tag(self, row);
    if (self->known && tag <= KNOWN_MOST_TAG) {
        mapix_entry *slot = known_slot(self, row);
        self->nknown += slot->reserved == 0;
        *slot = *e;
        slot->reserved = (uint16_t)tag;
    }
}

/* Enlarge the table when half of it is used, unless all rows have slots of their own.  Without memory the
 * table stays as it is, and rows that have no slot are confirmed at each use. */
static void make_room(file_object *self) {
    const unsigned had_bits = self->known_bits;
    const uint64_t had = self->known ? UINT64_C(1) << had_bits : 0;
    if (self->known && (had_bits == KNOWN_MOST_BITS || had >= self->index.nrecords ||
                        self->nknown < had / 2)) {
        return;
    }
    unsigned bits = self->known ? had_bits + 1 : KNOWN_LEAST_BITS;
    while (bits < KNOWN_MOST_BITS && self->index.nrecords >> bits >= KNOWN_MOST_TAG) {
        bits++;
    }
    mapix_entry *old = self->known, *more = calloc((size_t)1 << bits, sizeof *more);
    if (!more) {
        return;
    }
    POKE(self->known, more);
    POKE(self->known_bits, bits);
    self->nknown = 0;
    for (uint64_t i = 0; i < had; i++) {
        if (old[i].reserved) {
            keep(self, ((uint64_t)old[i].reserved - 1) << had_bits | i, &old[i]);
        }
    }
    free(old);
}

static int is_known(file_object *self, uint64_t row, mapix_entry *e) {
    int found = 0;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (MAPIX_LIKELY(self->known != NULL)) {
        const mapix_entry *slot = known_slot(self, row);
        if (MAPIX_LIKELY(slot->reserved == known_tag(self, row))) {
            *e = *slot;
            found = 1;
        }
    }
    Py_END_CRITICAL_SECTION();
    return found;
}

/* Not inline: the registers that it takes would cost each record that is known. */
__attribute__((noinline)) static int confirmed_entry(file_object *self, uint64_t row, mapix_entry *e) {
    if (find_quickly(self, row, e) != MAPIX_OK && find_slowly(self, row, e)) {
        return -1;
    }
    if (MAPIX_UNLIKELY(ready(self))) { /* closed meanwhile */
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    make_room(self); /* now, as other threads may have been here */
    keep(self, row, e);
    Py_END_CRITICAL_SECTION();
    return 0;
}

static int entry_of_row(file_object *self, uint64_t row, mapix_entry *e) {
    if (MAPIX_UNLIKELY(self->find != NULL)) {
        if (MAPIX_UNLIKELY(!is_known(self, row, e)) && confirmed_entry(self, row, e)) {
            return -1;
        }
    } else if (self->index.entries) {
        *e = self->index.entries[row];
    } else { /* _attach has checked that all records are in bounds */
        *e = self->index.first;
        e->at_n += row * self->index.stride;
        return 0;
    }
    if (MAPIX_UNLIKELY(!in_bounds(self, e))) {
        PyErr_Format(PyExc_SystemError, "record %llu is out of bounds", (unsigned long long)row);
        return -1;
    }
    return 0;
}

PyObject *mapix_record_at(file_object *self, uint64_t row) {
    /* A cache miss, which takes as long as all the rest: under way while the record is made. */
    if (!self->find && self->index.entries) {
        MAPIX_PREFETCH(self->index.entries, row * sizeof(mapix_entry));
    } else if (PEEK(self->known)) { /* perhaps with the bits of another table: nothing is read */
        MAPIX_PREFETCH(known_slot(self, row), 0);
    }
    record_object *made = PyObject_New(record_object, mapix_record_type);
    if (!made) {
        return NULL;
    }
    made->file = (file_object *)Py_NewRef((PyObject *)self);
    made->row = (long long)row;
    if (MAPIX_UNLIKELY(entry_of_row(self, row, &made->entry))) {
        Py_DECREF(made);
        return NULL;
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
    return mapix_record_at(self, (uint64_t)row);
}

/* Whether all of the index lies within the file, so that mapix_record_at need not check it. */
static int fits(const file_object *self) {
    const mapix_table *index = &self->index;
    if (index->head_nbytes != 0 && index->head_nbytes != 6 && index->head_nbytes != 14) {
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

/* Hold the memory of which `data` is a view: a view can be released while arrays refer to it. */
static int take_data(file_object *self, PyObject *data, Py_buffer *held) {
    Py_buffer view;
    PyObject *owner = PyMemoryView_Check(data) ? PyObject_GetAttrString(data, "obj") : Py_NewRef(data);
    if (!owner) {
        return -1;
    }
    const int failed = PyObject_GetBuffer(owner, held, PyBUF_SIMPLE) < 0;
    Py_DECREF(owner);
    if (failed || PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    self->base = view.buf;
    self->nbytes = (uint64_t)view.len;
    PyBuffer_Release(&view);
    return 0;
}

/* The buffers are released by the caller when this fails. */
static int take(file_object *self, PyObject *data, PyObject *entries, Py_buffer *held) {
    self->index.entries = NULL;
    if (take_data(self, data, held)) {
        return -1;
    }
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

/* Whoever comes second, or after the file was closed, changes nothing. */
static int attach_once(file_object *self, const mapix_table *index, PyObject *data, PyObject *entries,
                       find_function find) {
    if (self->data.obj || self->nbytes) {
        return 0;
    }
    Py_buffer held = {0};
    self->index = *index;
    self->find = find;
    if (take(self, data, entries, &held)) {
        PyBuffer_Release(&held);
        PyBuffer_Release(&self->entries);
        self->nbytes = 0;
        return -1;
    }
    /* The owner comes last: with it, all the rest may be read.  Others may be reading it, so nothing else writes it. */
    self->data.buf = held.buf;
    memcpy(&self->data.len, &held.len, sizeof held - offsetof(Py_buffer, len));
    PUBLISH(self->data.obj, held.obj);
    return 0;
}

/* _attach(data, nrecords, stride, first, entries, end, head_nbytes, interleaved, find):
 * see record_fallback.py */
static PyObject *file_attach(file_object *self, PyObject *args) {
    PyObject *data, *entries;
    unsigned long long n, stride, at, end, find;
    unsigned h, w, c, nlabels, head_nbytes;
    int interleaved;
    if (!PyArg_ParseTuple(args, "OKK(KIIII)OKIpK", &data, &n, &stride, &at, &h, &w, &c, &nlabels,
                          &entries, &end, &head_nbytes, &interleaved, &find)) {
        return NULL;
    }
    if (at > MAPIX_AT_MASK || (h | w | c) > UINT16_MAX || nlabels > UINT8_MAX) {
        PyErr_SetString(PyExc_ValueError, "no such record");
        return NULL;
    }
    const vimh_header header = {.h = (uint16_t)h, .w = (uint16_t)w, .c = (uint16_t)c,
                                .n = (uint8_t)nlabels};
    mapix_table index = {.nrecords = n, .stride = stride, .end = end, .head_nbytes = head_nbytes,
                         .interleaved = (uint32_t)interleaved};
    entry_set(&index.first, at, &header);
    int failed;
    Py_BEGIN_CRITICAL_SECTION(self);
    failed = attach_once(self, &index, data, entries, (find_function)(uintptr_t)find);
    Py_END_CRITICAL_SECTION();
    return failed ? NULL : Py_NewRef(Py_None);
}

/* Release the file.  The table stays: another thread might be reading it. */
static PyObject *file_detach(file_object *self, PyObject *Py_UNUSED(none)) {
    Py_buffer data;
    PyObject *owner;
    Py_BEGIN_CRITICAL_SECTION(self);
    data = self->data;
    PUBLISH(self->data.obj, NULL);
    owner = self->map_owner;
    self->map_owner = NULL;
    Py_END_CRITICAL_SECTION();
    PyBuffer_Release(&data); /* does nothing when there is none */
    Py_XDECREF(owner);
    Py_RETURN_NONE;
}

static int file_traverse(file_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->data.obj);
    Py_VISIT(self->entries.obj);
    Py_VISIT(self->map_owner);
    for (int id = 0; self->heads && id < NIDS; id++) {
        Py_VISIT(self->heads[id]);
    }
    return 0;
}

static int file_clear(file_object *self) {
    PyBuffer_Release(&self->data);
    PyBuffer_Release(&self->entries);
    Py_CLEAR(self->map_owner);
    for (int id = 0; self->heads && id < NIDS; id++) {
        Py_CLEAR(self->heads[id]);
    }
    self->index.nrecords = 0;
    return 0;
}

static void file_dealloc(file_object *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    (void)file_clear(self);
    free(self->known);
    PyMem_Free(self->heads);
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

int mapix_add_file(PyObject *module) {
    mapix_file_type = mapix_add_type(module, "File", &file_spec);
    return mapix_file_type ? 0 : -1;
}
