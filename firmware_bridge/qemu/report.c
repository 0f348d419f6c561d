#include "report.h"

#include <stdint.h>

#include "device.h"
#include "json.h"

static void add_sent(const device_tally *t)
{
    json_open("sent");
    json_int("data", t->data_sent);
    json_int("samples", t->samples_sent);
    json_int("info", t->info_sent);
    json_int("ack", t->acks_sent);
    json_int("ping", t->pings_sent);
    json_int("pong", t->pongs_sent);
    json_int("error", t->errors_sent);
    json_int("config_ack", t->config_acks_sent);
    json_close();
    json_open("not_sent");
    json_int("data_no_room", t->data_no_room);
    json_int("control_no_room", t->control_no_room);
    json_close();
}

static void add_received(const device_tally *t)
{
    json_open("received");
    json_int("result", t->results);
    json_int("result_with_value", t->results_with_value);
    json_int("alert", t->alerts);
    json_int("alerts_untracked", t->alerts_untracked);
    json_int("alerts_expired", t->alerts_expired);
    json_int("acks_granted", t->acks_granted);
    json_int("ping", t->pings);
    json_int("pong", t->pongs);
    json_int("pongs_impossible", t->pongs_impossible);
    json_int("config", t->configs);
    json_int("error", t->errors);
    json_int("unexpected", t->unexpected);
    json_int("host_lost", t->host_lost);
    json_close();
}

static void add_wire(const eeb_counters *wire)
{
    json_open("wire");
    json_int("frames", wire->frames);
    json_int("bad_cobs", wire->bad_cobs);
    json_int("oversize", wire->oversize);
    json_int("bad_length", wire->bad_length);
    json_int("bad_crc", wire->bad_crc);
    json_int("bad_version", wire->bad_version);
    json_int("unknown_type", wire->unknown_type);
    json_int("bad_field", wire->bad_field);
    json_int("long_payload", wire->long_payload);
    json_int("lost_frames", wire->lost_frames);
    json_int("seq_back", wire->seq_back);
    json_close();
}

static void add_line(const char *name, const line_tally *line)
{
    json_open(name);
    json_int("dropped", line->dropped);
    json_int("flipped", line->flipped);
    json_int("overrun", line->overrun);
    json_close();
}

static void add_display(const device_display *shown)
{
    char room[JSON_DIGITS];
    uint32_t i;
    json_open("display");
    json_int("host_present", shown->host_present ? 1 : 0);
    json_int("has_number", shown->has_number ? 1 : 0);
    json_int("mpcwp_cmmhg", shown->last.mpcwp_cmmhg);
    json_int("sample_index", shown->last.sample_index);
    json_int("validity", shown->last.validity);
    json_int("model_id", shown->last.model_id);
    json_open("signals");
    for (i = 0u; i < DEVICE_ALERTS; i++) {
        if (shown->alerts[i].condition != 0u) {
            json_int(json_digits(shown->alerts[i].condition, room), shown->alerts[i].signal);
        }
    }
    json_close();
    json_close();
}

void report_write(uint64_t awake_ticks)
{
    const device_tally tally = device_counted();
    const device_clock *clock = device_host_clock();
    json_begin();
    json_int("boots", tally.boots);
    json_int("position", tally.position);
    add_sent(&tally);
    add_received(&tally);
    add_wire(&tally.wire);
    add_line("line_sent", &tally.line.sent);
    add_line("line_received", &tally.line.received);
    add_display(device_shown());
    json_open("clock");
    json_int("offset_us", clock->offset_us);
    json_int("round_trip_us", clock->round_trip_us);
    json_int("awake_ticks", (int64_t)awake_ticks);
    json_close();
    json_write();
}
