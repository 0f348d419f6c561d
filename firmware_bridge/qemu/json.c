#include "json.h"

#include <stddef.h>

#include "board.h"

static char text[4096];
static size_t used;

/* A line that is cut short is no JSON: the reader sees it. */
static void add(const char *part)
{
    while (*part != '\0' && used < sizeof text - 1u) {
        text[used] = *part;
        used++;
        part++;
    }
    text[used] = '\0';
}

static void add_name(const char *name)
{
    const char last = used > 0u ? text[used - 1u] : '{';
    add(last == '{' ? "\"" : ", \"");
    add(name);
    add("\": ");
}

const char *json_digits(int64_t value, char room[JSON_DIGITS])
{
    size_t at = JSON_DIGITS - 1u;
    uint64_t left = value < 0 ? 0u - (uint64_t)value : (uint64_t)value;
    room[at] = '\0';
    do {
        at--;
        room[at] = (char)('0' + (char)(left % 10u));
        left /= 10u;
    } while (left != 0u);
    if (value < 0) {
        at--;
        room[at] = '-';
    }
    return &room[at];
}

void json_begin(void)
{
    used = 0u;
    add("{");
}

void json_int(const char *name, int64_t value)
{
    char room[JSON_DIGITS];
    add_name(name);
    add(json_digits(value, room));
}

void json_open(const char *name)
{
    add_name(name);
    add("{");
}

void json_close(void)
{
    add("}");
}

void json_write(void)
{
    add("}\n");
    board_write(text);
}
