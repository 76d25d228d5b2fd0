/* png_rows.c - undo the filters of rows of a PNG file (ISO/IEC 15948, clause 9). */
#include "mapix.h"

enum { NONE = 0, SUB = 1, UP = 2, AVERAGE = 3, PAETH = 4 };

/* The one of left, above and their corner that is nearest to left + above - corner. */
static uint8_t nearest_of(int left, int above, int corner) {
    const int by_left = above > corner ? above - corner : corner - above;
    const int by_above = left > corner ? left - corner : corner - left;
    const int both = left + above - 2 * corner, by_corner = both < 0 ? -both : both;
    if (by_left <= by_above && by_left <= by_corner) {
        return (uint8_t)left;
    }
    return (uint8_t)(by_above <= by_corner ? above : corner);
}

static int undo(uint8_t filter, uint8_t *row, const uint8_t *above, uint64_t nbytes, uint64_t pixel) {
    for (uint64_t i = 0; i < nbytes; i++) {
        const int left = i < pixel ? 0 : row[i - pixel], corner = i < pixel ? 0 : above[i - pixel];
        switch (filter) {
        case NONE: return MAPIX_OK;
        case SUB: row[i] = (uint8_t)(row[i] + left); break;
        case UP: row[i] = (uint8_t)(row[i] + above[i]); break;
        case AVERAGE: row[i] = (uint8_t)(row[i] + (left + above[i]) / 2); break;
        case PAETH: row[i] = (uint8_t)(row[i] + nearest_of(left, above[i], corner)); break;
        default: return MAPIX_E_ARGUMENT;
        }
    }
    return filter > PAETH ? MAPIX_E_ARGUMENT : MAPIX_OK;
}

int mapix_png_rows(const uint8_t *filtered, uint64_t nrows, uint64_t nbytes, uint32_t pixel_nbytes,
                   const uint8_t *above, uint8_t *rows) {
    if (pixel_nbytes == 0) {
        return MAPIX_E_ARGUMENT;
    }
    for (uint64_t r = 0; r < nrows; r++) {
        const uint8_t *from = filtered + r * (nbytes + 1);
        uint8_t *row = rows + r * nbytes;
        for (uint64_t i = 0; i < nbytes; i++) {
            row[i] = from[i + 1];
        }
        const int status = undo(from[0], row, r ? row - nbytes : above, nbytes, pixel_nbytes);
        if (status) {
            return status;
        }
    }
    return MAPIX_OK;
}
