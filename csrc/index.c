/* index.c - stored indexes of VIMH files: the header, which is untrusted, and who can have written it. */
#define _GNU_SOURCE
#include "mapix.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The bytes of src/mapix/vimh/index_store.py. */
enum {
    VERSION = 5,
    NSLOTS = 2,
    SLOT_NBYTES = 1024,
    HEAD_NBYTES = 4096,
    PREFIX_NBYTES = 16,
    FIELDS_NBYTES = 306,
    FORMAT_NBYTES = 16,
    OPTIONS_NBYTES = 128,
    ALIGNED_NBYTES = 64,
    ENTRY_NBYTES = 16,
    MOMENTS_NBYTES = 32,
    MOST_RECORDS_BITS = 48, /* with it, sizes of tables do not exceed 64 bits */
};

typedef struct {
    const uint8_t *at;
} reader;

static uint64_t number(reader *r, unsigned nbytes) {
    uint64_t found = 0;
    for (unsigned k = 0; k < nbytes; k++) {
        found |= (uint64_t)r->at[k] << 8 * k;
    }
    r->at += nbytes;
    return found;
}

static uint32_t small(reader *r, unsigned nbytes) {
    return (uint32_t)number(r, nbytes);
}

static void read_fields(const uint8_t *fields, mapix_index *found, const uint8_t **texts) {
    reader r = {fields};
    found->dev = number(&r, 8);
    found->ino = number(&r, 8);
    found->size = number(&r, 8);
    found->mtime_ns = (int64_t)number(&r, 8);
    found->ctime_ns = (int64_t)number(&r, 8);
    *texts = r.at;
    r.at += FORMAT_NBYTES + OPTIONS_NBYTES;
    found->head_nbytes = small(&r, 4);
    found->ids_differ = small(&r, 4);
    found->nrecords = number(&r, 8);
    found->covered = number(&r, 8);
    found->stride = number(&r, 8);
    found->at = number(&r, 8);
    found->h = small(&r, 2);
    found->w = small(&r, 2);
    found->c = small(&r, 2);
    found->nlabels = small(&r, 2);
    found->channels = small(&r, 2);
    for (int k = 0; k < 4; k++) {
        found->ids[k] = number(&r, 8);
    }
    found->has = small(&r, 4);
    for (int k = 0; k < MAPIX_INDEX_TABLES; k++) {
        found->crcs[k] = small(&r, 4);
    }
    found->sample = small(&r, 4);
    found->generation = number(&r, 8);
    found->entries_at = number(&r, 8);
}

/* The slot of the largest generation among those whose checksum is right, or null. */
static const uint8_t *newest(const uint8_t *head, uint64_t nbytes, uint32_t *slot) {
    static const char magic[] = {'M', 'A', 'P', 'I', 'X', 'I', 'D', 'X'};
    const uint8_t *found = NULL;
    uint64_t most = 0;
    for (uint32_t k = 0; k < NSLOTS; k++) {
        const uint64_t end = (uint64_t)k * SLOT_NBYTES + PREFIX_NBYTES + FIELDS_NBYTES;
        if (end > nbytes) {
            break;
        }
        const uint8_t *fields = head + end - FIELDS_NBYTES;
        reader r = {fields - PREFIX_NBYTES + sizeof magic}, last = {head + end - 16};
        if (memcmp(fields - PREFIX_NBYTES, magic, sizeof magic) || number(&r, 4) != VERSION ||
            number(&r, 4) != mapix_crc32c(fields, FIELDS_NBYTES, 0)) {
            continue;
        }
        const uint64_t generation = number(&last, 8);
        if (!found || generation > most) {
            found = fields;
            most = generation;
            *slot = k;
        }
    }
    return found;
}

static uint64_t aligned(uint64_t at, uint64_t to) {
    return at + (to - at % to) % to;
}

static uint64_t count_ids(const mapix_index *found) {
    uint64_t n = 0;
    for (int k = 0; k < 4; k++) {
        n += (uint64_t)__builtin_popcountll(found->ids[k]);
    }
    return n;
}

/* Find where the tables lie; whether they end where the entries begin. */
static int place_tables(mapix_index *found) {
    const uint32_t has = found->has;
    const uint64_t n = found->nrecords;
    const uint64_t parts = has & MAPIX_HAS_COLUMNS ? has & MAPIX_HAS_PRESENT ? 2 : 1 : 0;
    found->tables_at[MAPIX_INDEX_LABELS] = HEAD_NBYTES;
    found->tables_nbytes[MAPIX_INDEX_LABELS] = parts * count_ids(found) * n;
    found->tables_nbytes[MAPIX_INDEX_CHECKSUMS] = has & MAPIX_HAS_CHECKSUMS ? 4 * n : 0;
    found->tables_nbytes[MAPIX_INDEX_MOMENTS] =
        has & MAPIX_HAS_MOMENTS ? (uint64_t)MOMENTS_NBYTES * found->channels : 0;
    uint64_t end = HEAD_NBYTES + found->tables_nbytes[MAPIX_INDEX_LABELS];
    for (int k = MAPIX_INDEX_CHECKSUMS; k <= MAPIX_INDEX_MOMENTS; k++) {
        found->tables_at[k] = aligned(end, 8);
        end = found->tables_at[k] + found->tables_nbytes[k];
    }
    found->tables_at[MAPIX_INDEX_ENTRIES] = found->entries_at;
    found->tables_nbytes[MAPIX_INDEX_ENTRIES] = found->stride ? 0 : ENTRY_NBYTES * n;
    return !has || aligned(end, ALIGNED_NBYTES) == found->entries_at;
}

static int all_alike(const mapix_index *found) {
    const uint64_t size =
        found->head_nbytes + 1 + 2 * (uint64_t)found->nlabels + (uint64_t)found->h * found->w * found->c;
    return size == found->stride && found->covered / size == found->nrecords && found->covered % size == 0;
}

static int is_possible(const mapix_index *found, uint64_t nbytes, uint64_t file_nbytes) {
    const uint32_t known = MAPIX_HAS_COLUMNS | MAPIX_HAS_PRESENT | MAPIX_HAS_CHECKSUMS | MAPIX_HAS_MOMENTS;
    return (found->head_nbytes == 6 || found->head_nbytes == 14) && found->nlabels <= 255 &&
           found->covered <= file_nbytes && !(found->nrecords >> MOST_RECORDS_BITS) && !(found->has & ~known) &&
           !found->nrecords == !found->covered && found->at == 0 && (!found->stride || all_alike(found)) &&
           found->entries_at >= HEAD_NBYTES && found->entries_at <= nbytes &&
           found->entries_at % ALIGNED_NBYTES == 0;
}

int mapix_index_read(const uint8_t *head, uint64_t head_nbytes, uint64_t nbytes, const char *options,
                     uint64_t file_nbytes, mapix_index *found) {
    char wanted[FORMAT_NBYTES + OPTIONS_NBYTES] = "vimh";
    const size_t length = strlen(options);
    const uint8_t *fields = newest(head, head_nbytes, &found->slot), *texts;
    if (!fields || nbytes < HEAD_NBYTES || length > OPTIONS_NBYTES) {
        return MAPIX_E_ARGUMENT;
    }
    memcpy(wanted + FORMAT_NBYTES, options, length);
    read_fields(fields, found, &texts);
    if (memcmp(wanted, texts, sizeof wanted) != 0 || !is_possible(found, nbytes, file_nbytes) ||
        !place_tables(found)) {
        return MAPIX_E_ARGUMENT;
    }
    return found->tables_nbytes[MAPIX_INDEX_ENTRIES] > nbytes - found->entries_at ? MAPIX_E_ARGUMENT : MAPIX_OK;
}

/* --- whose it is ----------------------------------------------------------------------------------- */

enum {
    MOST_PATH_NBYTES = 4096, /* of what a system call takes */
    TRIES = 4,               /* at reading a header while another process extends the index */
};

static int find_folder(const char *path, struct stat *found) {
    char folder[MOST_PATH_NBYTES];
    const char *slash = strrchr(path, '/');
    const size_t length = slash && slash != path ? (size_t)(slash - path) : 1;
    if (length >= sizeof folder) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(folder, slash ? path : ".", length);
    folder[length] = 0;
    return stat(folder, found);
}

int mapix_distrust(const char *path, const mapix_owner *file, const mapix_owner *data) {
    const uint64_t shared = file->gid == data->gid ? data->mode & S_IWGRP : 0;
    if (file->uid != geteuid() && file->uid != 0 && file->uid != data->uid) {
        return MAPIX_OF_ANOTHER;
    }
    if (file->mode & (S_IWGRP | S_IWOTH) & ~shared) {
        return MAPIX_WRITABLE;
    }
    struct stat folder;
    if (find_folder(path, &folder)) {
        return MAPIX_NO_FOLDER;
    }
    return folder.st_mode & S_IWOTH && !(folder.st_mode & S_ISVTX) ? MAPIX_REPLACEABLE : MAPIX_TRUSTED;
}

int mapix_index_open(const char *path, const mapix_owner *data, uint64_t data_nbytes, const char *options, mapix_map *map,
                     mapix_about *about, mapix_index *found) {
    if (mapix_open(path, map, about, MAPIX_FRONT_NBYTES, 1)) {
        return MAPIX_E_SYSTEM;
    }
    for (int k = 1; k < TRIES && about->nfront == MAPIX_UNREAD; k++) {
        (void)mapix_describe(map, about, MAPIX_FRONT_NBYTES, 1);
    }
    const mapix_owner owner = {about->mode, about->uid, about->gid};
    if (about->nfront > MAPIX_FRONT_NBYTES || mapix_distrust(path, &owner, data) ||
        mapix_index_read(about->front, about->nfront, about->size, options, data_nbytes, found)) {
        mapix_shut(map);
        return MAPIX_E_ARGUMENT;
    }
    return MAPIX_OK;
}
