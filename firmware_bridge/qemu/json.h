/* A line of JSON: objects of numbers, written to the emulator's console.
 *
 * Research use only. Licence: Apache-2.0.
 */
#ifndef JSON_H
#define JSON_H

#include <stdint.h>

void json_begin(void);
void json_int(const char *name, int64_t value);
void json_open(const char *name);
void json_close(void);

/* Close the outermost object and write the line. */
void json_write(void);

/* `value` in digits; what is returned stands in `room`. */
#define JSON_DIGITS 22u
const char *json_digits(int64_t value, char room[JSON_DIGITS]);

#endif
