/* memory.c - Memory: a file mapped read-only, as an object that exports its bytes.
 *
 * It is unmapped when the object dies, so when the last array or view over it is deleted, and not before.  The
 * exported buffer is read-only, so no array over it can be made writeable.  A Python mmap of a file holds a
 * descriptor before Python 3.13; this does not. */
#define _GNU_SOURCE
#include "record.h"

#include <errno.h>
#include <sys/mman.h>

static const size_t HUGE_NBYTES = (size_t)2 << 20;

typedef struct {
    PyObject_HEAD
    void *base;
    size_t nbytes;
} memory_object;

/* Where in unused memory a huge page begins that has nbytes after it; another thread may take it meanwhile. */
static void *aligned(size_t nbytes) {
    void *room = mmap(NULL, nbytes + HUGE_NBYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) {
        return NULL;
    }
    (void)munmap(room, nbytes + HUGE_NBYTES);
    return (char *)room + (HUGE_NBYTES - (uintptr_t)room % HUGE_NBYTES) % HUGE_NBYTES;
}

/* A file of a huge page or more begins at one, where the kernel can do it: only there it maps the page cache by
 * huge pages.  Most file systems see to it themselves. */
static void *mapped(int fd, size_t nbytes, int flags) {
    void *base = mmap(NULL, nbytes, PROT_READ, flags, fd, 0);
    if (base == MAP_FAILED || nbytes < HUGE_NBYTES || (uintptr_t)base % HUGE_NBYTES == 0) {
        return base;
    }
    (void)munmap(base, nbytes);
    return mmap(aligned(nbytes), nbytes, PROT_READ, flags, fd, 0);
}

/* Memory(fd, nbytes, shared): the first bytes of a file, at least one. */
static PyObject *memory_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(names)) {
    int fd, shared;
    Py_ssize_t nbytes;
    if (!PyArg_ParseTuple(args, "inp", &fd, &nbytes, &shared)) {
        return NULL;
    }
    memory_object *self = nbytes > 0 ? (memory_object *)PyType_GenericAlloc(type, 0) : NULL;
    if (!self) {
        return nbytes > 0 ? NULL : PyErr_Format(PyExc_ValueError, "no memory of %zd bytes", nbytes);
    }
    void *base;
    Py_BEGIN_ALLOW_THREADS
    base = mapped(fd, (size_t)nbytes, shared ? MAP_SHARED : MAP_PRIVATE);
    Py_END_ALLOW_THREADS
    if (base == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(self);
        return NULL;
    }
    self->base = base;
    self->nbytes = (size_t)nbytes;
    return (PyObject *)self;
}

static void memory_dealloc(memory_object *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->nbytes) {
        (void)munmap(self->base, self->nbytes);
    }
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static int memory_getbuffer(memory_object *self, Py_buffer *view, int flags) {
    return PyBuffer_FillInfo(view, (PyObject *)self, self->base, (Py_ssize_t)self->nbytes, 1, flags);
}

static PyObject *memory_address(memory_object *self, void *Py_UNUSED(closure)) {
    return PyLong_FromVoidPtr(self->base);
}

static PyGetSetDef memory_getset[] = {
    {"address", (getter)memory_address, NULL, "Address of the first byte.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot memory_slots[] = {
    {Py_tp_new, (void *)memory_new},
    {Py_tp_dealloc, (void *)memory_dealloc},
    {Py_bf_getbuffer, (void *)memory_getbuffer},
    {Py_tp_getset, memory_getset},
    {0, NULL},
};

static PyType_Spec memory_spec = {"mapix._record.Memory", sizeof(memory_object), 0, Py_TPFLAGS_DEFAULT,
                                  memory_slots};

int mapix_add_memory(PyObject *module) {
    return mapix_add_type(module, "Memory", &memory_spec) ? 0 : -1;
}
