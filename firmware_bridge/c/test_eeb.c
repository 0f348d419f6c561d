/* Tests of eeb.c on a computer. `test_eeb vectors` reads the lines of ../vectors/lines.py and checks each one;
 * `test_eeb decode` answers blocks (length u32 little endian, bytes) with what a fresh decoder made of them, for
 * comparison with other decoders; `test_eeb recode` with the bytes that the encoder makes of each frame. Exit code 1 when
 * a check failed. Licence: Apache-2.0. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eeb.h"

#define LINE_SIZE 32768
#define MAX_COUNTS ((size_t)EEB_MAX_PAYLOAD / 2u)

static char expected[LINE_SIZE];
static char seen[LINE_SIZE];
static uint8_t bytes[LINE_SIZE / 2];
static int failures;
static int checks;

static void check(bool ok, const char *what)
{
    checks++;
    if (!ok) {
        failures++;
        fprintf(stderr, "FAILED: %.120s\n", what);
    }
}

/* ------------------------------------------------------------------------------------------ printing */

static size_t print_data(const eeb_data *d, char *to, size_t room)
{
    unsigned sample;
    unsigned channel;
    size_t n = (size_t)snprintf(
        to, room, "data %u %d %" PRIu32 " %" PRIu64 " %" PRIu32 " %u %u %u", (unsigned)d->seq, d->simulated,
        d->sample_index, d->t_us, d->lead_off, (unsigned)d->channels, (unsigned)d->format, (unsigned)d->gain_id);
    for (sample = 0; sample < d->samples; sample++) {
        for (channel = 0; channel < d->channels; channel++) {
            const int32_t count = eeb_data_count(d, (uint8_t)sample, (uint8_t)channel);
            n += (size_t)snprintf(to + n, room - n, " %" PRId32, count);
        }
    }
    return n;
}

static void print_result(const eeb_result *r, char *to, size_t room)
{
    snprintf(to, room, "result %u %d %" PRIu32 " %d %d %d %u %u %u %" PRIu32 " %u", (unsigned)r->seq, r->simulated,
             r->sample_index, r->mpcwp_cmmhg, r->low_cmmhg, r->high_cmmhg, (unsigned)r->p_elevated, (unsigned)r->sqi,
             (unsigned)r->validity, r->model_id, (unsigned)r->latency_ms);
}

static void print_info(const eeb_info *i, char *to, size_t room)
{
    unsigned lead;
    size_t n = (size_t)snprintf(to, room, "info %u %d %u %u %u %" PRIu32 " %" PRIu32 " %" PRIu32 " %u %u %u",
                                (unsigned)i->seq, i->simulated, (unsigned)i->spec_minor, (unsigned)i->mode,
                                (unsigned)i->filter_mode, i->rate_num, i->rate_den, i->lsb_pv, (unsigned)i->gain_centi,
                                (unsigned)i->gain_id, (unsigned)i->channels);
    for (lead = 0; lead < i->channels; lead++) {
        n += (size_t)snprintf(to + n, room - n, " %u", (unsigned)i->leads[lead]);
    }
    snprintf(to + n, room - n, " %s 3 %u %u %u", i->serial, (unsigned)i->firmware_major, (unsigned)i->firmware_minor,
             (unsigned)i->firmware_patch);
}

static void print_alert(const eeb_alert *a, char *to, size_t room)
{
    snprintf(to, room, "alert %u %d %" PRIu32 " %u %u %u %d %u %u", (unsigned)a->seq, a->simulated, a->sample_index,
             (unsigned)a->condition, (unsigned)a->kind, (unsigned)a->priority, a->present, (unsigned)a->signal,
             (unsigned)a->text_id);
}

static void print_config(const eeb_config *c, char *to, size_t room)
{
    snprintf(to, room, "config %u %d %u %u %" PRIu32 " %" PRIu32 " %u %u %u %u %u", (unsigned)c->seq, c->simulated,
             (unsigned)c->config_id, (unsigned)c->channels, c->rate_num, c->rate_den, (unsigned)c->samples,
             (unsigned)c->format, (unsigned)c->gain_id, (unsigned)c->filter_mode, (unsigned)c->mode);
}

static void print_answer(const eeb_frame *f, char *to, size_t room)
{
    if (f->type == EEB_TYPE_ACK) {
        snprintf(to, room, "ack %u %d %" PRIu32 " %u %u", (unsigned)f->ack.seq, f->ack.simulated, f->ack.sample_index,
                 (unsigned)f->ack.condition, (unsigned)f->ack.user_id);
    } else if (f->type == EEB_TYPE_CONFIG_ACK) {
        const eeb_config_ack *a = &f->config_ack;
        snprintf(to, room, "config_ack %u %d %" PRIu32 " %u %u %u", (unsigned)a->seq, a->simulated, a->sample_index,
                 (unsigned)a->config_id, (unsigned)a->status, (unsigned)a->field);
    } else {
        const eeb_error *e = &f->error;
        snprintf(to, room, "error %u %d %u %u %u %" PRIu32, (unsigned)e->seq, e->simulated, (unsigned)e->code,
                 (unsigned)e->about_type, (unsigned)e->about_seq, e->detail);
    }
}

static void print_time(const eeb_frame *f, char *to, size_t room)
{
    if (f->type == EEB_TYPE_PING) {
        snprintf(to, room, "ping %u %d %" PRIu32 " %" PRIu64, (unsigned)f->ping.seq, f->ping.simulated,
                 f->ping.ping_id, f->ping.t1_us);
    } else {
        snprintf(to, room, "pong %u %d %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64, (unsigned)f->pong.seq,
                 f->pong.simulated, f->pong.ping_id, f->pong.t1_us, f->pong.t2_us, f->pong.t3_us);
    }
}

static void print_frame(const eeb_frame *f, char *to, size_t room)
{
    switch (f->type) {
    case EEB_TYPE_DATA: print_data(&f->data, to, room); break;
    case EEB_TYPE_RESULT: print_result(&f->result, to, room); break;
    case EEB_TYPE_INFO: print_info(&f->info, to, room); break;
    case EEB_TYPE_ALERT: print_alert(&f->alert, to, room); break;
    case EEB_TYPE_CONFIG: print_config(&f->config, to, room); break;
    case EEB_TYPE_PING:
    case EEB_TYPE_PONG: print_time(f, to, room); break;
    default: print_answer(f, to, room); break;
    }
}

static void print_counters(const eeb_counters *c, char *to, size_t room)
{
    snprintf(to, room,
             "counters %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32
             " %" PRIu32 " %" PRIu32 " %" PRIu32,
             c->frames, c->bad_cobs, c->oversize, c->bad_length, c->bad_crc, c->bad_version, c->unknown_type,
             c->bad_field, c->long_payload, c->lost_frames, c->seq_back);
}

/* ------------------------------------------------------------------------------------------ vectors */

static bool next_line(char *line)
{
    if (fgets(line, LINE_SIZE, stdin) == NULL) {
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    return true;
}

static size_t from_hex(const char *hex)
{
    size_t n = 0;
    unsigned value;
    while (sscanf(hex + 2 * n, "%2x", &value) == 1) {
        bytes[n++] = (uint8_t)value;
    }
    return n;
}

static void expect_line(const char *actual)
{
    check(next_line(expected) && strcmp(expected, actual) == 0, actual);
}

static void run_crc(const char *input, const char *crc)
{
    const size_t n = from_hex(input);
    const uint32_t first_half = eeb_crc32c(0u, bytes, n / 2);
    const uint32_t wanted = (uint32_t)strtoul(crc, NULL, 16);
    check(eeb_crc32c(0u, bytes, n) == wanted, input);
    check(eeb_crc32c(first_half, bytes + n / 2, n - n / 2) == wanted, input);
}

/* The decoder unstuffs as bytes come in: look at what it holds just before the delimiter. */
static void run_cobs(const char *decoded, const char *encoded)
{
    eeb_decoder d;
    eeb_frame f;
    size_t i;
    size_t n = from_hex(encoded);
    eeb_decoder_init(&d);
    for (i = 0; i < n; i++) {
        check(!eeb_decoder_push(&d, bytes[i], &f), encoded);
    }
    n = from_hex(decoded);
    check(d.left == 0u && d.size == n && memcmp(d.buffer, bytes, n) == 0, encoded);
}

static size_t encode(const eeb_frame *f, uint8_t *out, size_t capacity)
{
    int32_t counts[MAX_COUNTS];
    size_t i;
    switch (f->type) {
    case EEB_TYPE_RESULT: return eeb_encode_result(&f->result, out, capacity);
    case EEB_TYPE_INFO: return eeb_encode_info(&f->info, out, capacity);
    case EEB_TYPE_ALERT: return eeb_encode_alert(&f->alert, out, capacity);
    case EEB_TYPE_ACK: return eeb_encode_ack(&f->ack, out, capacity);
    case EEB_TYPE_CONFIG: return eeb_encode_config(&f->config, out, capacity);
    case EEB_TYPE_CONFIG_ACK: return eeb_encode_config_ack(&f->config_ack, out, capacity);
    case EEB_TYPE_PING: return eeb_encode_ping(&f->ping, out, capacity);
    case EEB_TYPE_PONG: return eeb_encode_pong(&f->pong, out, capacity);
    case EEB_TYPE_ERROR: return eeb_encode_error(&f->error, out, capacity);
    default: break;
    }
    for (i = 0; i < (size_t)f->data.samples * f->data.channels; i++) {
        counts[i] = eeb_data_count(&f->data, (uint8_t)(i / f->data.channels), (uint8_t)(i % f->data.channels));
    }
    return eeb_encode_data(&f->data, counts, out, capacity);
}

/* What was decoded encodes to the same bytes; a capacity below the promised bound is refused. */
static void run_canonical(const char *name, const char *wire)
{
    eeb_decoder d;
    eeb_frame f;
    uint8_t out[EEB_MAX_WIRE];
    const size_t n = from_hex(wire);
    size_t i;
    bool complete = false;
    eeb_decoder_init(&d);
    for (i = 0; i < n; i++) {
        complete = eeb_decoder_push(&d, bytes[i], &f);
    }
    check(complete, name);
    check(complete && encode(&f, out, sizeof out) == n && memcmp(out, bytes, n) == 0, name);
    check(complete && encode(&f, out, n - 1u) == 0u, name);
}

static void run_stream(const char *wire)
{
    eeb_decoder d;
    eeb_frame f;
    const size_t n = from_hex(wire);
    size_t i;
    eeb_decoder_init(&d);
    for (i = 0; i < n; i++) {
        if (eeb_decoder_push(&d, bytes[i], &f)) {
            print_frame(&f, seen, sizeof seen);
            expect_line(seen);
        }
    }
    print_counters(&d.counters, seen, sizeof seen);
    expect_line(seen);
}

static void run_vectors(void)
{
    static char line[LINE_SIZE];
    while (next_line(line)) {
        const char *kind = strtok(line, " ");
        const char *first = strtok(NULL, " ");
        const char *second = strtok(NULL, " ");
        if (kind == NULL || first == NULL || second == NULL) {
            check(false, "a line of another form");
        } else if (strcmp(kind, "crc") == 0) {
            run_crc(first, second);
        } else if (strcmp(kind, "cobs") == 0) {
            run_cobs(first, second);
        } else if (strcmp(kind, "canonical") == 0) {
            run_canonical(first, second);
        } else if (strcmp(kind, "stream") == 0) {
            run_stream(second);
        } else {
            check(false, kind);
        }
    }
}

/* ------------------------------------------------------------------------------------------ refusals */

static void run_data_refusals(void)
{
    const eeb_data good = {0, false, 0, 0, 0, 1, 1, EEB_FORMAT_I16, 0, NULL};
    uint8_t out[EEB_MAX_WIRE];
    int32_t counts[MAX_COUNTS] = {0};
    eeb_data d = good;
    check(eeb_encode_data(&d, counts, out, sizeof out) > 0u, "smallest frame");
    d.channels = 0u;
    check(eeb_encode_data(&d, counts, out, sizeof out) == 0u, "no channel");
    d.channels = EEB_MAX_CHANNELS + 1u;
    check(eeb_encode_data(&d, counts, out, sizeof out) == 0u, "17 channels");
    d = good;
    d.samples = 0u;
    check(eeb_encode_data(&d, counts, out, sizeof out) == 0u, "no sample");
    d = good;
    d.format = 2u;
    check(eeb_encode_data(&d, counts, out, sizeof out) == 0u, "unknown format");
    d = good;
    d.channels = 16u;
    d.samples = 20u;
    check(eeb_encode_data(&d, counts, out, sizeof out) == 0u, "too many samples for a frame");
    counts[0] = 0x8000;
    check(eeb_encode_data(&good, counts, out, sizeof out) == 0u, "count above 16 bits");
    counts[0] = -0x8001;
    check(eeb_encode_data(&good, counts, out, sizeof out) == 0u, "count below 16 bits");
    d = good;
    d.format = EEB_FORMAT_I24;
    counts[0] = 0x800000;
    check(eeb_encode_data(&d, counts, out, sizeof out) == 0u, "count above 24 bits");
}

static void run_result_refusals(void)
{
    const eeb_result good = {0, false, 0, 1500, 1000, 2000, 9, 0, EEB_VALIDITY_VLD, 0, 0};
    uint8_t out[EEB_MAX_WIRE];
    eeb_result r = good;
    check(eeb_encode_result(&r, out, sizeof out) > 0u, "good result");
    r.validity = EEB_VALIDITY_INV;
    check(eeb_encode_result(&r, out, sizeof out) == 0u, "invalid result with numbers");
    r.validity = EEB_VALIDITY_NA + 1u;
    check(eeb_encode_result(&r, out, sizeof out) == 0u, "unknown validity");
    r = good;
    r.high_cmmhg = 999;
    check(eeb_encode_result(&r, out, sizeof out) == 0u, "reversed interval");
    r = good;
    r.low_cmmhg = EEB_NO_VALUE;
    check(eeb_encode_result(&r, out, sizeof out) == 0u, "half an interval");
}

static void run_info_refusals(void)
{
    const eeb_info good = {.rate_num = 500u, .rate_den = 1u, .lsb_pv = 1u, .gain_centi = 1u, .channels = 2u,
                           .leads = {EEB_LEAD_I, EEB_LEAD_II}, .serial = "A1"};
    uint8_t out[EEB_MAX_WIRE];
    eeb_info i = good;
    check(eeb_encode_info(&i, out, sizeof out) > 0u, "good info");
    i.serial[0] = '\0';
    check(eeb_encode_info(&i, out, sizeof out) == 0u, "no serial, and one that goes on behind its end");
    i = good;
    i.serial[1] = (char)-61;
    check(eeb_encode_info(&i, out, sizeof out) == 0u, "a serial that is not ASCII");
    i = good;
    i.channels = EEB_MAX_CHANNELS + 1u;
    check(eeb_encode_info(&i, out, sizeof out) == 0u, "17 channels of a device");
    i = good;
    i.leads[1] = EEB_LEAD_I;
    check(eeb_encode_info(&i, out, sizeof out) == 0u, "a lead twice");
    i = good;
    i.simulated = true;
    check(eeb_encode_info(&i, out, sizeof out) == 0u, "real and simulated");
}

static void run_message_refusals(void)
{
    const eeb_alert alert = {.condition = 0u, .present = true, .signal = EEB_SIGNAL_ON};
    const eeb_alert shown = {.condition = EEB_CONDITION_GAP, .present = true, .signal = EEB_SIGNAL_OFF};
    const eeb_ack ack = {.condition = 0u};
    const eeb_config config = {
        .channels = 0xFFu, .rate_num = 1u, .rate_den = 1u, .samples = 26u, .format = EEB_FORMAT_I24};
    const eeb_config_ack applied = {.status = EEB_CONFIG_APPLIED, .field = 4u};
    const eeb_pong pong = {.t2_us = 2u, .t3_us = 1u};
    const eeb_error error = {.code = 0u};
    uint8_t out[EEB_MAX_WIRE];
    check(eeb_encode_alert(&alert, out, sizeof out) == 0u, "an alert without a condition");
    check(eeb_encode_alert(&shown, out, sizeof out) == 0u, "present, and its signal off");
    check(eeb_encode_ack(&ack, out, sizeof out) == 0u, "an ack without a condition");
    check(eeb_encode_config(&config, out, sizeof out) == 0u, "more than DATA can hold");
    check(eeb_encode_config_ack(&applied, out, sizeof out) == 0u, "applied, and a field refused");
    check(eeb_encode_pong(&pong, out, sizeof out) == 0u, "answered before it was asked");
    check(eeb_encode_error(&error, out, sizeof out) == 0u, "an error without a code");
}

static void run_out_of_range(void)
{
    const uint8_t packed[2] = {1u, 0u};
    const eeb_data d = {0, false, 0, 0, 0, 1, 1, EEB_FORMAT_I16, 0, packed};
    check(eeb_data_count(&d, 0u, 0u) == 1, "the one count");
    check(eeb_data_count(&d, 1u, 0u) == 0 && eeb_data_count(&d, 0u, 1u) == 0, "counts that are not there");
}

/* ------------------------------------------------------------------------------------------ decode */

static void print_wire(const eeb_frame *f)
{
    uint8_t out[EEB_MAX_WIRE];
    const size_t n = encode(f, out, sizeof out);
    size_t i;
    for (i = 0; i < n; i++) {
        printf("%02x", (unsigned)out[i]);
    }
    puts("");
}

static bool answer_block(bool recode)
{
    uint8_t head[4];
    uint8_t *block;
    eeb_decoder *d;
    eeb_frame f;
    size_t size;
    size_t i;
    if (fread(head, 1, sizeof head, stdin) != sizeof head) {
        return false;
    }
    size = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    /* On the heap, exactly as large as needed: the sanitizer then sees every byte beyond. */
    block = malloc(size + 1u);
    d = malloc(sizeof *d);
    if (block == NULL || d == NULL || fread(block, 1, size, stdin) != size) {
        exit(2);
    }
    eeb_decoder_init(d);
    for (i = 0; i < size; i++) {
        if (!eeb_decoder_push(d, block[i], &f)) {
            continue;
        }
        if (recode) {
            print_wire(&f);
        } else {
            print_frame(&f, seen, sizeof seen);
            puts(seen);
        }
    }
    print_counters(&d->counters, seen, sizeof seen);
    puts(seen);
    fflush(stdout);
    free(block);
    free(d);
    return true;
}

int main(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "decode") == 0 || strcmp(argv[1], "recode") == 0)) {
        while (answer_block(argv[1][0] == 'r')) {
        }
        return 0;
    }
    if (argc != 2 || strcmp(argv[1], "vectors") != 0) {
        fprintf(stderr, "usage: test_eeb vectors|decode|recode, with input on stdin\n");
        return 2;
    }
    run_vectors();
    check(checks > 100, "the vectors were read");
    run_data_refusals();
    run_result_refusals();
    run_info_refusals();
    run_message_refusals();
    run_out_of_range();
    printf("%d checks, %d failures\n", checks, failures);
    return failures == 0 ? 0 : 1;
}
