/* EEB v1. Every number that goes over the wire is put together byte by byte, so neither the byte order nor the
 * alignment of the processor matters. Licence: Apache-2.0. */
#include "eeb.h"

/* C99 has no static_assert: an array of negative size stops the build. */
#define EEB_ASSERT(name, condition) typedef char eeb_assert_##name[(condition) ? 1 : -1]
EEB_ASSERT(frame_fits_the_crc, EEB_MAX_FRAME <= 655u);
EEB_ASSERT(payload_fits_its_length_field, EEB_MAX_PAYLOAD <= UINT16_MAX);
EEB_ASSERT(two_full_cobs_blocks_at_most, EEB_MAX_FRAME < 3u * 254u);
EEB_ASSERT(largest_wire_form, EEB_MAX_WIRE == 644u);
EEB_ASSERT(lead_off_bits, EEB_MAX_CHANNELS == 16u);
EEB_ASSERT(byte_is_eight_bits, (uint8_t)0xFFu == 255u && sizeof(uint32_t) == 4u);

#define FULL_BLOCK 0xFFu
#define FLAG_SIMULATED 1u
#define CRC_START 0xFFFFFFFFu
/* What the CRC register holds after any bytes followed by their own CRC. */
#define CRC_RESIDUE 0xB798B438u

/* ------------------------------------------------------------------------------------------ CRC-32C */

static uint32_t crc_step(uint32_t crc, uint8_t byte)
{
    /* 0x1EDC6F41 reflected, four bits at a time: 64 bytes of table. */
    static const uint32_t table[16] = {
        0x00000000u, 0x105EC76Fu, 0x20BD8EDEu, 0x30E349B1u, 0x417B1DBCu, 0x5125DAD3u, 0x61C69362u, 0x7198540Du,
        0x82F63B78u, 0x92A8FC17u, 0xA24BB5A6u, 0xB21572C9u, 0xC38D26C4u, 0xD3D3E1ABu, 0xE330A81Au, 0xF36E6F75u};
    crc ^= byte;
    crc = (crc >> 4) ^ table[crc & 0x0Fu];
    crc = (crc >> 4) ^ table[crc & 0x0Fu];
    return crc;
}

uint32_t eeb_crc32c(uint32_t crc, const uint8_t *bytes, size_t size)
{
    size_t i;
    crc ^= CRC_START;
    for (i = 0u; i < size; i++) {
        crc = crc_step(crc, bytes[i]);
    }
    return crc ^ CRC_START;
}

/* ------------------------------------------------------------------------------------------ reading numbers */

static uint16_t get_u16(const uint8_t *at)
{
    return (uint16_t)((uint32_t)at[0] | ((uint32_t)at[1] << 8));
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)get_u16(at) | ((uint32_t)get_u16(at + 2) << 16);
}

static uint64_t get_u64(const uint8_t *at)
{
    return (uint64_t)get_u32(at) | ((uint64_t)get_u32(at + 4) << 32);
}

/* Two's complement of `bits` bits, without a conversion that C leaves to the compiler. */
static int32_t to_signed(uint32_t value, uint32_t bits)
{
    const uint32_t sign = (uint32_t)1u << (bits - 1u);
    return (value & sign) != 0u ? (int32_t)(value & (sign - 1u)) - (int32_t)(sign - 1u) - 1 : (int32_t)value;
}

static int16_t get_i16(const uint8_t *at)
{
    return (int16_t)to_signed(get_u16(at), 16u);
}

/* ------------------------------------------------------------------------------------------ fields */

static size_t count_width(uint8_t format)
{
    return (size_t)2u + format;
}

static bool data_fields_fit(const eeb_data *data)
{
    return data->channels >= 1u && data->channels <= EEB_MAX_CHANNELS && data->samples >= 1u &&
           data->format <= EEB_FORMAT_I24;
}

static size_t data_payload_size(const eeb_data *data)
{
    return EEB_DATA_HEAD_SIZE + (size_t)data->channels * data->samples * count_width(data->format);
}

bool eeb_validity_carries_value(uint8_t validity)
{
    return validity == EEB_VALIDITY_VLD || validity == EEB_VALIDITY_VLDATED || validity == EEB_VALIDITY_QST;
}

static bool interval_fits(const eeb_result *result)
{
    const bool low = result->low_cmmhg != EEB_NO_VALUE;
    const bool high = result->high_cmmhg != EEB_NO_VALUE;
    const bool pressure = result->mpcwp_cmmhg != EEB_NO_VALUE;
    return low == high && (pressure || !low) && result->low_cmmhg <= result->high_cmmhg;
}

static bool result_fields_fit(const eeb_result *result)
{
    const bool numbers = result->mpcwp_cmmhg != EEB_NO_VALUE || result->p_elevated != 0u;
    return result->validity <= EEB_VALIDITY_NA && interval_fits(result) &&
           (!numbers || eeb_validity_carries_value(result->validity));
}

/* ------------------------------------------------------------------------------------------ decoder */

static void begin_frame(eeb_decoder *d)
{
    d->crc = CRC_START;
    d->size = 0u;
    d->left = 0u;
    d->started = false;
    d->zero_due = false;
    d->too_long = false;
}

void eeb_decoder_init(eeb_decoder *decoder)
{
    eeb_counters *c = &decoder->counters;
    c->frames = c->bad_cobs = c->oversize = c->bad_length = c->bad_crc = c->bad_version = 0u;
    c->unknown_type = c->bad_field = c->long_payload = c->lost_frames = c->seq_back = 0u;
    decoder->next_seq = 0u;
    decoder->synchronised = false;
    begin_frame(decoder);
}

static void keep(eeb_decoder *d, uint8_t byte)
{
    if (d->size < EEB_MAX_FRAME) {
        d->buffer[d->size] = byte;
        d->size++;
        d->crc = crc_step(d->crc, byte);
    } else {
        d->too_long = true;
    }
}

static void take(eeb_decoder *d, uint8_t byte)
{
    d->started = true;
    if (d->left > 0u) {
        keep(d, byte);
        d->left--;
    } else {
        if (d->zero_due) {
            keep(d, 0u);
        }
        d->left = (uint8_t)(byte - 1u);
        d->zero_due = byte != FULL_BLOCK;
    }
}

static void follow(eeb_decoder *d, uint16_t seq)
{
    const uint16_t ahead = d->synchronised ? (uint16_t)(seq - d->next_seq) : 0u;
    if (ahead < 0x8000u) {
        d->counters.lost_frames += ahead;
    } else {
        d->counters.seq_back++;
    }
    d->next_seq = (uint16_t)(seq + 1u);
    d->synchronised = true;
}

static bool read_data(eeb_counters *counters, const uint8_t *payload, size_t size, eeb_data *data)
{
    bool ok = false;
    if (size < EEB_DATA_HEAD_SIZE) {
        counters->bad_length++;
        return false;
    }
    data->sample_index = get_u32(payload);
    data->t_us = get_u64(payload + 4);
    data->lead_off = get_u32(payload + 12);
    data->channels = payload[16];
    data->samples = payload[17];
    data->format = payload[18];
    data->gain_id = payload[19];
    data->packed = payload + EEB_DATA_HEAD_SIZE;
    if (!data_fields_fit(data)) {
        counters->bad_field++;
    } else if (size < data_payload_size(data)) {
        counters->bad_length++;
    } else {
        ok = true;
        counters->long_payload += size > data_payload_size(data) ? 1u : 0u;
    }
    return ok;
}

static bool read_result(eeb_counters *counters, const uint8_t *payload, size_t size, eeb_result *result)
{
    bool ok = false;
    if (size < EEB_RESULT_SIZE) {
        counters->bad_length++;
        return false;
    }
    result->sample_index = get_u32(payload);
    result->mpcwp_cmmhg = get_i16(payload + 4);
    result->low_cmmhg = get_i16(payload + 6);
    result->high_cmmhg = get_i16(payload + 8);
    result->p_elevated = get_u16(payload + 10);
    result->sqi = payload[12];
    result->validity = payload[13];
    result->model_id = get_u32(payload + 14);
    result->latency_ms = get_u16(payload + 18);
    if (!result_fields_fit(result)) {
        counters->bad_field++;
    } else {
        ok = true;
        counters->long_payload += size > EEB_RESULT_SIZE ? 1u : 0u;
    }
    return ok;
}

static bool read_payload(eeb_decoder *d, eeb_frame *frame)
{
    const uint16_t seq = get_u16(d->buffer + 2);
    const bool simulated = (get_u16(d->buffer + 6) & FLAG_SIMULATED) != 0u;
    const uint8_t *payload = d->buffer + EEB_HEADER_SIZE;
    const size_t size = (size_t)d->size - EEB_HEADER_SIZE - EEB_CRC_SIZE;
    bool ok = false;

    frame->type = d->buffer[1];
    switch (frame->type) {
    case EEB_TYPE_DATA:
        frame->data.seq = seq;
        frame->data.simulated = simulated;
        ok = read_data(&d->counters, payload, size, &frame->data);
        break;
    case EEB_TYPE_RESULT:
        frame->result.seq = seq;
        frame->result.simulated = simulated;
        ok = read_result(&d->counters, payload, size, &frame->result);
        break;
    default:
        d->counters.unknown_type++;
        break;
    }
    d->counters.frames += ok ? 1u : 0u;
    return ok;
}

/* The order of the checks is that of PROTOCOL.md section 6. */
static bool judge(eeb_decoder *d, eeb_frame *frame)
{
    bool ok = false;
    if (d->size < EEB_HEADER_SIZE + EEB_CRC_SIZE) {
        d->counters.bad_length++;
    } else if (d->crc != CRC_RESIDUE) {
        d->counters.bad_crc++;
    } else if (d->buffer[0] != EEB_VERSION_MAJOR) {
        d->counters.bad_version++;
    } else if ((uint32_t)get_u16(d->buffer + 4) + EEB_HEADER_SIZE + EEB_CRC_SIZE != d->size) {
        d->counters.bad_length++;
    } else {
        follow(d, get_u16(d->buffer + 2));
        ok = read_payload(d, frame);
    }
    return ok;
}

bool eeb_decoder_push(eeb_decoder *decoder, uint8_t byte, eeb_frame *frame)
{
    bool complete = false;
    if (byte != 0u) {
        if (!decoder->too_long) {
            take(decoder, byte);
        }
        return false;
    }
    if (decoder->too_long) {
        decoder->counters.oversize++;
    } else if (decoder->left > 0u) {
        decoder->counters.bad_cobs++;
    } else if (decoder->started) {
        complete = judge(decoder, frame);
    } else {
        /* Delimiters in a row: an idle line, or a sender that flushes. */
    }
    begin_frame(decoder);
    return complete;
}

int32_t eeb_data_count(const eeb_data *data, uint8_t sample, uint8_t channel)
{
    const uint8_t *at;
    if (sample >= data->samples || channel >= data->channels) {
        return 0;
    }
    at = data->packed + ((size_t)sample * data->channels + channel) * count_width(data->format);
    if (data->format == EEB_FORMAT_I16) {
        return to_signed(get_u16(at), 16u);
    }
    return to_signed((uint32_t)get_u16(at) | ((uint32_t)at[2] << 16), 24u);
}

/* ------------------------------------------------------------------------------------------ encoder */

/* Stuffs and checks byte by byte straight into the caller's buffer: no second buffer, no second pass. */
typedef struct {
    uint8_t *out;
    size_t at;       /* where the next byte goes */
    size_t code_at;  /* where the current block's code byte will stand */
    uint8_t code;
    uint32_t crc;
} writer;

static void next_block(writer *w)
{
    w->out[w->code_at] = w->code;
    w->code_at = w->at;
    w->at++;
    w->code = 1u;
}

static void put(writer *w, uint8_t byte)
{
    w->crc = crc_step(w->crc, byte);
    if (w->code == FULL_BLOCK) {
        next_block(w);
    }
    if (byte == 0u) {
        next_block(w);
    } else {
        w->out[w->at] = byte;
        w->at++;
        w->code++;
    }
}

static void put_uint(writer *w, uint32_t value, uint32_t bytes)
{
    uint32_t i;
    for (i = 0u; i < bytes; i++) {
        put(w, (uint8_t)((value >> (8u * i)) & 0xFFu));
    }
}

static void put_int(writer *w, int32_t value, uint32_t bytes)
{
    put_uint(w, (uint32_t)value, bytes);
}

static void put_header(writer *w, uint8_t *out, uint8_t type, uint16_t seq, size_t payload, bool simulated)
{
    w->out = out;
    w->code_at = 0u;
    w->at = 1u;
    w->code = 1u;
    w->crc = CRC_START;
    put(w, EEB_VERSION_MAJOR);
    put(w, type);
    put_uint(w, seq, 2u);
    put_uint(w, (uint32_t)payload, 2u);
    put_uint(w, simulated ? FLAG_SIMULATED : 0u, 2u);
}

static size_t finish(writer *w)
{
    put_uint(w, w->crc ^ CRC_START, 4u);
    w->out[w->code_at] = w->code;
    w->out[w->at] = 0u;
    return w->at + 1u;
}

static bool counts_fit(const eeb_data *data, const int32_t *counts)
{
    const int32_t limit = data->format == EEB_FORMAT_I16 ? 0x8000 : 0x800000;
    const size_t total = (size_t)data->channels * data->samples;
    size_t i;
    for (i = 0u; i < total; i++) {
        if (counts[i] < -limit || counts[i] >= limit) {
            return false;
        }
    }
    return true;
}

size_t eeb_encode_data(const eeb_data *data, const int32_t *counts, uint8_t *out, size_t capacity)
{
    writer w;
    size_t i;
    size_t payload;
    size_t total;

    if (!data_fields_fit(data)) {
        return 0u;
    }
    payload = data_payload_size(data);
    if (payload > EEB_MAX_PAYLOAD || capacity < EEB_WIRE_SIZE(payload) || !counts_fit(data, counts)) {
        return 0u;
    }
    put_header(&w, out, EEB_TYPE_DATA, data->seq, payload, data->simulated);
    put_uint(&w, data->sample_index, 4u);
    put_uint(&w, (uint32_t)(data->t_us & 0xFFFFFFFFu), 4u);
    put_uint(&w, (uint32_t)(data->t_us >> 32), 4u);
    put_uint(&w, data->lead_off, 4u);
    put(&w, data->channels);
    put(&w, data->samples);
    put(&w, data->format);
    put(&w, data->gain_id);
    total = (size_t)data->channels * data->samples;
    for (i = 0u; i < total; i++) {
        put_int(&w, counts[i], (uint32_t)count_width(data->format));
    }
    return finish(&w);
}

size_t eeb_encode_result(const eeb_result *result, uint8_t *out, size_t capacity)
{
    writer w;
    if (capacity < EEB_WIRE_SIZE(EEB_RESULT_SIZE) || !result_fields_fit(result)) {
        return 0u;
    }
    put_header(&w, out, EEB_TYPE_RESULT, result->seq, EEB_RESULT_SIZE, result->simulated);
    put_uint(&w, result->sample_index, 4u);
    put_int(&w, result->mpcwp_cmmhg, 2u);
    put_int(&w, result->low_cmmhg, 2u);
    put_int(&w, result->high_cmmhg, 2u);
    put_uint(&w, result->p_elevated, 2u);
    put(&w, result->sqi);
    put(&w, result->validity);
    put_uint(&w, result->model_id, 4u);
    put_uint(&w, result->latency_ms, 2u);
    return finish(&w);
}
