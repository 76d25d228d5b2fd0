/* record.h - mapix._record: ds[i] and its views as C types over numpy's C API, gather() and pack().
 *
 * Three types, each with a fallback in Python (src/mapix/vimh/record_fallback.py):
 * File (base of Gatherer) knows where the records are, Rows (base of Dataset) picks one by number,
 * Record makes arrays that alias the file.  Only what has to be fast lives here: whatever is rare or
 * goes wrong is handed to a method of the Python class (`_ready`, `_find`, `_pick`, `labels_of`, ...),
 * and that raises.
 *
 * What may be trusted: `data` is the complete map, held as a buffer; `index` was checked in `_attach`.
 * A walked table is private memory that our own walk wrote.  A stored table is a mapped file that
 * another process can change: it is read by mapix_table_find alone, under the guard of mapix._core, and what that
 * has confirmed is kept in `known`, private memory of bounded size.
 *
 * One interpreter: types are static variables, and initialisation has one phase, so that other kinds of
 * interpreters refuse the module and get the fallback.
 *
 * Pythons without the GIL: what an object learns after it was made, and other threads may replace, is read and written in
 * a critical section of the object.  What is learnt once is written before PUBLISH, and read after KNOWN.  A section ends
 * early where a thread waits, so nothing that is checked in it is used after a call that may run Python code.
 */
#ifndef MAPIX_RECORD_H
#define MAPIX_RECORD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../vimh.h"

#ifndef Py_BEGIN_CRITICAL_SECTION /* before Python 3.13, and in the limited API, the GIL is enough */
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* Whether another thread can change what a function of this module has checked, and is about to use. */
#ifdef Py_GIL_DISABLED
enum { WITHOUT_GIL = 1 };
#else
enum { WITHOUT_GIL = 0 };
#endif

/* A word that another thread may publish meanwhile, with all that was written before. */
#define KNOWN(word) __atomic_load_n(&(word), __ATOMIC_ACQUIRE)
#define PUBLISH(word, value) __atomic_store_n(&(word), value, __ATOMIC_RELEASE)
/* A word that stands for itself. */
#define PEEK(word) __atomic_load_n(&(word), __ATOMIC_RELAXED)
#define POKE(word, value) __atomic_store_n(&(word), value, __ATOMIC_RELAXED)

typedef int (*find_function)(const mapix_map *, const mapix_table *, uint64_t, mapix_entry *,
                             mapix_where *);
typedef int (*copy_function)(const mapix_map *, uint64_t, uint64_t, void *, mapix_where *);

typedef struct {
    PyObject_HEAD
    Py_buffer data;    /* memory with the file; data.obj, which keeps it mapped, is the base of all arrays, and null
                          before the file was attached, and after it was closed */
    uint8_t *base;     /* of the file, in that memory */
    Py_buffer entries; /* the table, if there is one */
    mapix_table index;
    uint64_t nbytes;       /* of the file; not 0 once it was attached */
    find_function find;    /* of a stored table; else null */
    mapix_entry *known;    /* of a stored table, made when first needed: 1 << known_bits slots */
    uint64_t nknown;       /* of them taken */
    unsigned known_bits;
    PyObject *map_owner;   /* of `map`; null before the first use, and after the file changed */
    const mapix_map *map;
    copy_function copy;
    PyObject **heads;      /* of each label id: (name, values of the 256 codes), or null; null before the first use */
} file_object;

typedef struct {
    PyObject_HEAD
    file_object *file;
    long long row;
    mapix_entry entry;
} record_object;

extern PyTypeObject *mapix_file_type, *mapix_record_type;

/* Make the types and add them to the module; 0, or -1 with an exception. */
int mapix_add_file(PyObject *module);
int mapix_add_record(PyObject *module);
int mapix_add_gather(PyObject *module);
int mapix_add_pack(PyObject *module);
int mapix_add_prepared(PyObject *module);
int mapix_add_memory(PyObject *module);
int mapix_add_function(PyObject *module, PyMethodDef *def);
int mapix_add_archive(PyObject *module);
int mapix_add_segment_buffer(PyObject *module);
PyTypeObject *mapix_add_type(PyObject *module, const char *name, PyType_Spec *spec);

/* A new record; the file is ready, and row < nrecords. */
PyObject *mapix_record_at(file_object *file, uint64_t row);

/* Copy bytes of the file under the guard, and check that the file is unchanged.  0; 1 if that failed, and a
 * method of the subclass has to find out why; -1 with an exception. */
int mapix_copied(file_object *file, uint64_t at, uint64_t nbytes, void *to);

/* The (name, values) of a label id, borrowed; null with an exception. */
PyObject *mapix_head(file_object *file, uint8_t id);

/* Have the subclass attach the file; raises once the file is closed. */
int mapix_make_ready(file_object *file);

static inline int ready(file_object *file) {
    return MAPIX_LIKELY(KNOWN(file->data.obj) != NULL) ? 0 : mapix_make_ready(file);
}

/* The owner of the memory with the file, or null with an exception once it is closed. */
static inline PyObject *memory_of(file_object *file) {
    PyObject *owner;
    do {
        Py_BEGIN_CRITICAL_SECTION(file);
        owner = Py_XNewRef(file->data.obj);
        Py_END_CRITICAL_SECTION();
    } while (MAPIX_UNLIKELY(!owner) && !mapix_make_ready(file));
    return owner;
}

static inline uint64_t size_of(const file_object *file, const mapix_entry *e) {
    return before_image(file->index.head_nbytes, entry_n(e)) + pixels(e->h, e->w, e->c);
}

#endif
