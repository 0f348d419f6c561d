#include "report.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "board.h"
#include "device.h"

#define MAX_DIGITS 21u

static char text[4096];
static size_t used;

/* A report that is cut short is no JSON: the reader sees it. */
static void add(const char *part)
{
    while (*part != '\0' && used < sizeof text - 1u) {
        text[used] = *part;
        used++;
        part++;
    }
    text[used] = '\0';
}

static void add_int(int64_t value)
{
    char digits[MAX_DIGITS + 1u];
    size_t at = MAX_DIGITS;
    uint64_t left = value < 0 ? 0u - (uint64_t)value : (uint64_t)value;
    digits[at] = '\0';
    do {
        at--;
        digits[at] = (char)('0' + (char)(left % 10u));
        left /= 10u;
    } while (left != 0u);
    add(value < 0 ? "-" : "");
    add(&digits[at]);
}

static void add_name(const char *name)
{
    const char last = used > 0u ? text[used - 1u] : '{';
    add(last == '{' ? "\"" : ", \"");
    add(name);
    add("\": ");
}

static void field(const char *name, int64_t value)
{
    add_name(name);
    add_int(value);
}

static void open_object(const char *name)
{
    add_name(name);
    add("{");
}

static void add_sent(const device_tally *t)
{
    open_object("sent");
    field("data", t->data_sent);
    field("samples", t->samples_sent);
    field("info", t->info_sent);
    field("ack", t->acks_sent);
    field("ping", t->pings_sent);
    field("pong", t->pongs_sent);
    field("error", t->errors_sent);
    field("config_ack", t->config_acks_sent);
    add("}");
    open_object("not_sent");
    field("data_no_room", t->data_no_room);
    field("control_no_room", t->control_no_room);
    field("samples_lost", t->samples_lost);
    add("}");
}

static void add_received(const device_tally *t)
{
    open_object("received");
    field("result", t->results);
    field("result_with_value", t->results_with_value);
    field("alert", t->alerts);
    field("alerts_untracked", t->alerts_untracked);
    field("alerts_expired", t->alerts_expired);
    field("acks_granted", t->acks_granted);
    field("ping", t->pings);
    field("pong", t->pongs);
    field("pongs_impossible", t->pongs_impossible);
    field("config", t->configs);
    field("error", t->errors);
    field("unexpected", t->unexpected);
    field("host_lost", t->host_lost);
    add("}");
}

static void add_wire(const eeb_counters *wire)
{
    open_object("wire");
    field("frames", wire->frames);
    field("bad_cobs", wire->bad_cobs);
    field("oversize", wire->oversize);
    field("bad_length", wire->bad_length);
    field("bad_crc", wire->bad_crc);
    field("bad_version", wire->bad_version);
    field("unknown_type", wire->unknown_type);
    field("bad_field", wire->bad_field);
    field("long_payload", wire->long_payload);
    field("lost_frames", wire->lost_frames);
    field("seq_back", wire->seq_back);
    add("}");
}

static void add_line(const char *name, const line_tally *line)
{
    open_object(name);
    field("dropped", line->dropped);
    field("flipped", line->flipped);
    field("overrun", line->overrun);
    add("}");
}

static void add_display(const device_display *shown)
{
    uint32_t i;
    open_object("display");
    field("host_present", shown->host_present ? 1 : 0);
    field("has_number", shown->has_number ? 1 : 0);
    field("mpcwp_cmmhg", shown->last.mpcwp_cmmhg);
    field("sample_index", shown->last.sample_index);
    field("validity", shown->last.validity);
    field("model_id", shown->last.model_id);
    open_object("signals");
    for (i = 0u; i < DEVICE_ALERTS; i++) {
        if (shown->alerts[i].condition != 0u) {
            add(text[used - 1u] == '{' ? "\"" : ", \"");
            add_int(shown->alerts[i].condition);
            add("\": ");
            add_int(shown->alerts[i].signal);
        }
    }
    add("}}");
}

void report_write(void)
{
    const device_tally tally = device_counted();
    const device_clock *clock = device_host_clock();
    used = 0u;
    add("{");
    field("boots", tally.boots);
    field("position", tally.position);
    add_sent(&tally);
    add_received(&tally);
    add_wire(&tally.wire);
    add_line("line_sent", &tally.line.sent);
    add_line("line_received", &tally.line.received);
    add_display(device_shown());
    open_object("clock");
    field("offset_us", clock->offset_us);
    field("round_trip_us", clock->round_trip_us);
    add("}}\n");
    board_write(text);
}
