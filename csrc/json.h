/* json.h - one number of JSON text, for those who read arrays of them and those who write them. */
#ifndef MAPIX_JSON_NUMBER_H
#define MAPIX_JSON_NUMBER_H

#include "mapix.h"

/* The powers of ten that a double holds exactly. */
extern const double mapix_ten_to[23];

/* A double times a power of ten, off by half a unit in the last place for each 22 of it. */
double mapix_times_ten_to(double d, int64_t power);

/* Read what begins at p, before `end`, with `-` or a digit.  Returns the first byte behind it; with
 * `value` not null, *value is the nearest float. */
const uint8_t *mapix_json_number(const uint8_t *p, const uint8_t *end, uint32_t grammar,
                                 float *value);

#endif
