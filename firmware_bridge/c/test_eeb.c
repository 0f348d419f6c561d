/* Tests of eeb.c on a computer. `test_eeb vectors` reads the lines of ../vectors/lines.py and checks each one;
 * `test_eeb decode` answers blocks (length u32 little endian, bytes) with what a fresh decoder made of them, for
 * comparison with other decoders. Exit code 1 when a check failed. Licence: Apache-2.0. */
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

static void print_frame(const eeb_frame *f, char *to, size_t room)
{
    if (f->type == EEB_TYPE_DATA) {
        print_data(&f->data, to, room);
    } else {
        print_result(&f->result, to, room);
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
    if (f->type == EEB_TYPE_RESULT) {
        return eeb_encode_result(&f->result, out, capacity);
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

static void run_out_of_range(void)
{
    const uint8_t packed[2] = {1u, 0u};
    const eeb_data d = {0, false, 0, 0, 0, 1, 1, EEB_FORMAT_I16, 0, packed};
    check(eeb_data_count(&d, 0u, 0u) == 1, "the one count");
    check(eeb_data_count(&d, 1u, 0u) == 0 && eeb_data_count(&d, 0u, 1u) == 0, "counts that are not there");
}

/* ------------------------------------------------------------------------------------------ decode */

static bool answer_block(void)
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
        if (eeb_decoder_push(d, block[i], &f)) {
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
    if (argc == 2 && strcmp(argv[1], "decode") == 0) {
        while (answer_block()) {
        }
        return 0;
    }
    if (argc != 2 || strcmp(argv[1], "vectors") != 0) {
        fprintf(stderr, "usage: test_eeb vectors|decode, with input on stdin\n");
        return 2;
    }
    run_vectors();
    check(checks > 100, "the vectors were read");
    run_data_refusals();
    run_result_refusals();
    run_out_of_range();
    printf("%d checks, %d failures\n", checks, failures);
    return failures == 0 ? 0 : 1;
}
