/* libFuzzer target of the decoder and the encoders: clang -fsanitize=fuzzer,address,undefined eeb.c fuzz_eeb.c.
 * ../../fuzz/c_decoder.py runs it, then decodes what it found with the Python codec too.
 *
 * An input is one byte and a rest. If the byte is even, the rest are bytes as they come over a wire. If it is odd, the
 * rest is bodies (length as u16 little endian, modulo 700; then header and payload), each of which gets its check value
 * and its COBS form here: random bytes would never pass the check. Licence: Apache-2.0. */
#include <stdlib.h>
#include <string.h>

#include "eeb.h"

#define LONGEST_BODY 700u
#define MAX_COUNTS ((size_t)EEB_MAX_PAYLOAD / 2u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(bool ok)
{
    if (!ok) {
        abort();
    }
}

static size_t encode_data(const eeb_data *data, uint8_t *out, size_t capacity)
{
    int32_t counts[MAX_COUNTS];
    size_t i;
    const size_t total = (size_t)data->samples * data->channels;
    need(total <= MAX_COUNTS);
    for (i = 0; i < total; i++) {
        counts[i] = eeb_data_count(data, (uint8_t)(i / data->channels), (uint8_t)(i % data->channels));
    }
    return eeb_encode_data(data, counts, out, capacity);
}

static size_t encode(const eeb_frame *f, uint8_t *out, size_t capacity)
{
    switch (f->type) {
    case EEB_TYPE_DATA: return encode_data(&f->data, out, capacity);
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
    abort();
}

/* What was handed over can be sent, and comes back; the room is exactly what is promised, so that the sanitizer sees
 * every byte beyond it. */
static void check_encoder(const eeb_frame *f)
{
    static eeb_decoder d;
    static eeb_frame again;
    uint8_t largest[EEB_MAX_WIRE];
    const size_t n = encode(f, largest, sizeof largest);
    uint8_t *exact = malloc(n + 2u);
    bool complete = false;
    size_t i;
    need(exact != NULL && n > 0u);
    need(encode(f, exact, n - 1u) == 0u);
    eeb_decoder_init(&d);
    for (i = 0; i < n; i++) {
        complete = eeb_decoder_push(&d, largest[i], &again);
    }
    need(complete && again.type == f->type && d.counters.frames == 1u && d.counters.long_payload == 0u);
    free(exact);
}

static void decode(eeb_decoder *d, const uint8_t *bytes, size_t size)
{
    static eeb_frame f;
    size_t i;
    for (i = 0; i < size; i++) {
        if (eeb_decoder_push(d, bytes[i], &f)) {
            check_encoder(&f);
        }
    }
}

/* COBS as its authors wrote it, not as the library does it: a block at a time. */
static void decode_stuffed(eeb_decoder *d, const uint8_t *bytes, size_t size)
{
    const uint8_t delimiter = 0u;
    size_t at = 0;
    bool more = true;
    while (more) {
        size_t n = 0;
        uint8_t code;
        while (at + n < size && bytes[at + n] != 0u && n < 254u) {
            n++;
        }
        code = (uint8_t)(n + 1u);
        decode(d, &code, 1u);
        decode(d, bytes + at, n);
        at += n;
        more = at < size;
        if (more && n < 254u) {
            at++; /* the zero that the block stands for */
        }
    }
    decode(d, &delimiter, 1u);
}

static void decode_bodies(eeb_decoder *d, const uint8_t *bytes, size_t size)
{
    uint8_t sealed[LONGEST_BODY + EEB_CRC_SIZE];
    size_t at = 0;
    while (at + 2u <= size) {
        size_t n = ((size_t)bytes[at] | (size_t)bytes[at + 1u] << 8) % LONGEST_BODY;
        uint32_t crc;
        at += 2u;
        n = n < size - at ? n : size - at;
        memcpy(sealed, bytes + at, n);
        at += n;
        crc = eeb_crc32c(0u, sealed, n);
        sealed[n] = (uint8_t)(crc & 0xFFu);
        sealed[n + 1u] = (uint8_t)(crc >> 8 & 0xFFu);
        sealed[n + 2u] = (uint8_t)(crc >> 16 & 0xFFu);
        sealed[n + 3u] = (uint8_t)(crc >> 24);
        decode_stuffed(d, sealed, n + EEB_CRC_SIZE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* On the heap, exactly as large as needed. */
    eeb_decoder *d = malloc(sizeof *d);
    need(d != NULL);
    eeb_decoder_init(d);
    if (size > 0u && data[0] % 2u == 0u) {
        decode(d, data + 1, size - 1u);
    } else if (size > 0u) {
        decode_bodies(d, data + 1, size - 1u);
    } else {
        /* No input. */
    }
    free(d);
    return 0;
}
