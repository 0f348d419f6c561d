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
EEB_ASSERT(info_layout, EEB_INFO_SIZE == 20u + EEB_MAX_CHANNELS + EEB_MAX_SERIAL + 4u);
EEB_ASSERT(every_message_fits, EEB_INFO_SIZE <= EEB_MAX_PAYLOAD && EEB_PONG_SIZE <= EEB_INFO_SIZE);
EEB_ASSERT(config_offsets_fit_a_byte, EEB_CONFIG_SIZE <= UINT8_MAX);
EEB_ASSERT(lead_codes_fit_the_mask, EEB_LEAD_V6 < 32u);
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

/* No known lead twice, and nothing behind the last channel. */
static bool leads_fit(const eeb_info *info)
{
    uint32_t seen = 0u;
    size_t i;
    for (i = 0u; i < EEB_MAX_CHANNELS; i++) {
        const uint8_t code = info->leads[i];
        if (i >= info->channels && code != EEB_LEAD_NONE) {
            return false;
        }
        if (code != EEB_LEAD_NONE && code <= EEB_LEAD_V6) {
            if ((seen & ((uint32_t)1u << code)) != 0u) {
                return false;
            }
            seen |= (uint32_t)1u << code;
        }
    }
    return info->channels >= 1u && info->channels <= EEB_MAX_CHANNELS;
}

static bool serial_fits(const char *serial)
{
    bool ended = false;
    size_t i;
    for (i = 0u; i < EEB_MAX_SERIAL; i++) {
        ended = ended || serial[i] == '\0';
        if (ended ? serial[i] != '\0' : (serial[i] < '!' || serial[i] > '~')) {
            return false;
        }
    }
    return serial[0] != '\0';
}

static bool info_fits(const eeb_info *info)
{
    const bool numbers = info->rate_num > 0u && info->rate_den > 0u && info->lsb_pv > 0u && info->gain_centi > 0u;
    const bool modes = info->mode <= EEB_MODE_DEMO && info->filter_mode <= EEB_FILTER_MONITORING;
    return numbers && modes && info->simulated == (info->mode != EEB_MODE_REAL) && leads_fit(info) &&
           serial_fits(info->serial);
}

static bool alert_fits(const eeb_alert *alert)
{
    const bool calls = alert->signal == EEB_SIGNAL_ON || alert->signal == EEB_SIGNAL_ACKNOWLEDGED;
    return alert->condition != 0u && alert->kind <= EEB_KIND_TECHNICAL && alert->priority <= EEB_PRIORITY_HIGH &&
           alert->signal <= EEB_SIGNAL_ACKNOWLEDGED && alert->present == calls;
}

static bool ack_fits(const eeb_ack *ack)
{
    return ack->condition != 0u;
}

static size_t bits_set(uint16_t bits)
{
    size_t n = 0u;
    uint32_t i;
    for (i = 0u; i < EEB_MAX_CHANNELS; i++) {
        n += ((uint32_t)bits >> i) & 1u;
    }
    return n;
}

static bool config_fits(const eeb_config *config)
{
    const bool numbers =
        config->channels != 0u && config->rate_num > 0u && config->rate_den > 0u && config->samples > 0u;
    const bool modes = config->format <= EEB_FORMAT_I24 && config->filter_mode <= EEB_FILTER_MONITORING &&
                       config->mode <= EEB_MODE_DEMO;
    return numbers && modes &&
           EEB_DATA_HEAD_SIZE + bits_set(config->channels) * config->samples * count_width(config->format) <=
               EEB_MAX_PAYLOAD;
}

static bool config_ack_fits(const eeb_config_ack *ack)
{
    return ack->status <= EEB_CONFIG_FAILED && ack->field < EEB_CONFIG_SIZE &&
           (ack->field == 0u || ack->status != EEB_CONFIG_APPLIED);
}

static bool pong_fits(const eeb_pong *pong)
{
    return pong->t3_us >= pong->t2_us;
}

static bool error_fits(const eeb_error *error)
{
    return error->code != 0u;
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

static bool read_info(const uint8_t *payload, eeb_info *info)
{
    size_t i;
    info->spec_minor = payload[1];
    info->mode = payload[2];
    info->filter_mode = payload[3];
    info->rate_num = get_u32(payload + 4);
    info->rate_den = get_u32(payload + 8);
    info->lsb_pv = get_u32(payload + 12);
    info->gain_centi = get_u16(payload + 16);
    info->gain_id = payload[18];
    info->channels = payload[19];
    for (i = 0u; i < EEB_MAX_CHANNELS; i++) {
        info->leads[i] = payload[20u + i];
    }
    for (i = 0u; i < EEB_MAX_SERIAL; i++) {
        /* A byte above 127 would depend on whether char is signed: it is refused as a blank is. */
        const uint8_t byte = payload[36u + i];
        info->serial[i] = byte < 0x80u ? (char)byte : ' ';
    }
    info->serial[EEB_MAX_SERIAL] = '\0';
    info->firmware_major = payload[52];
    info->firmware_minor = payload[53];
    info->firmware_patch = get_u16(payload + 54);
    return payload[0] == EEB_VERSION_MAJOR && info_fits(info);
}

static bool read_alert(const uint8_t *payload, eeb_alert *alert)
{
    alert->sample_index = get_u32(payload);
    alert->condition = get_u16(payload + 4);
    alert->kind = payload[6];
    alert->priority = payload[7];
    alert->present = payload[8] != 0u;
    alert->signal = payload[9];
    alert->text_id = get_u16(payload + 10);
    return payload[8] <= 1u && alert_fits(alert);
}

static bool read_ack(const uint8_t *payload, eeb_ack *ack)
{
    ack->sample_index = get_u32(payload);
    ack->condition = get_u16(payload + 4);
    ack->user_id = get_u16(payload + 6);
    return ack_fits(ack);
}

static bool read_config(const uint8_t *payload, eeb_config *config)
{
    config->config_id = get_u16(payload);
    config->channels = get_u16(payload + 2);
    config->rate_num = get_u32(payload + 4);
    config->rate_den = get_u32(payload + 8);
    config->samples = payload[12];
    config->format = payload[13];
    config->gain_id = payload[14];
    config->filter_mode = payload[15];
    config->mode = payload[16];
    return config_fits(config);
}

static bool read_config_ack(const uint8_t *payload, eeb_config_ack *ack)
{
    ack->sample_index = get_u32(payload);
    ack->config_id = get_u16(payload + 4);
    ack->status = payload[6];
    ack->field = payload[7];
    return config_ack_fits(ack);
}

static bool read_ping(const uint8_t *payload, eeb_ping *ping)
{
    ping->ping_id = get_u32(payload);
    ping->t1_us = get_u64(payload + 4);
    return true;
}

static bool read_pong(const uint8_t *payload, eeb_pong *pong)
{
    pong->ping_id = get_u32(payload);
    pong->t1_us = get_u64(payload + 4);
    pong->t2_us = get_u64(payload + 12);
    pong->t3_us = get_u64(payload + 20);
    return pong_fits(pong);
}

static bool read_error(const uint8_t *payload, eeb_error *error)
{
    error->code = payload[0];
    error->about_type = payload[1];
    error->about_seq = get_u16(payload + 2);
    error->detail = get_u32(payload + 4);
    return error_fits(error);
}

/* Bytes of a message's payload, as this version knows it; 0 for a type that it does not know. */
static size_t message_size(uint8_t type)
{
    size_t size = 0u;
    switch (type) {
    case EEB_TYPE_INFO: size = EEB_INFO_SIZE; break;
    case EEB_TYPE_ALERT: size = EEB_ALERT_SIZE; break;
    case EEB_TYPE_ACK: size = EEB_ACK_SIZE; break;
    case EEB_TYPE_CONFIG: size = EEB_CONFIG_SIZE; break;
    case EEB_TYPE_CONFIG_ACK: size = EEB_CONFIG_ACK_SIZE; break;
    case EEB_TYPE_PING: size = EEB_PING_SIZE; break;
    case EEB_TYPE_PONG: size = EEB_PONG_SIZE; break;
    case EEB_TYPE_ERROR: size = EEB_ERROR_SIZE; break;
    default: break;
    }
    return size;
}

#define READ_MESSAGE(member) \
    frame->member.seq = seq; \
    frame->member.simulated = simulated; \
    ok = read_##member(payload, &frame->member)

/* `payload` holds message_size() bytes at least. */
static bool read_fields(const uint8_t *payload, uint16_t seq, bool simulated, eeb_frame *frame)
{
    bool ok = false;
    switch (frame->type) {
    case EEB_TYPE_INFO: READ_MESSAGE(info); break;
    case EEB_TYPE_ALERT: READ_MESSAGE(alert); break;
    case EEB_TYPE_ACK: READ_MESSAGE(ack); break;
    case EEB_TYPE_CONFIG: READ_MESSAGE(config); break;
    case EEB_TYPE_CONFIG_ACK: READ_MESSAGE(config_ack); break;
    case EEB_TYPE_PING: READ_MESSAGE(ping); break;
    case EEB_TYPE_PONG: READ_MESSAGE(pong); break;
    case EEB_TYPE_ERROR: READ_MESSAGE(error); break;
    default: break;
    }
    return ok;
}

static bool read_message(eeb_counters *counters, const uint8_t *payload, size_t size, uint16_t seq, bool simulated,
                         eeb_frame *frame)
{
    const size_t known = message_size(frame->type);
    bool ok = false;
    if (known == 0u) {
        counters->unknown_type++;
    } else if (size < known) {
        counters->bad_length++;
    } else if (!read_fields(payload, seq, simulated, frame)) {
        counters->bad_field++;
    } else {
        ok = true;
        counters->long_payload += size > known ? 1u : 0u;
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
        ok = read_message(&d->counters, payload, size, seq, simulated, frame);
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

static void put_u64(writer *w, uint64_t value)
{
    put_uint(w, (uint32_t)(value & 0xFFFFFFFFu), 4u);
    put_uint(w, (uint32_t)(value >> 32), 4u);
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
    put_u64(&w, data->t_us);
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

size_t eeb_encode_info(const eeb_info *info, uint8_t *out, size_t capacity)
{
    writer w;
    size_t i;
    if (capacity < EEB_WIRE_SIZE(EEB_INFO_SIZE) || !info_fits(info)) {
        return 0u;
    }
    put_header(&w, out, EEB_TYPE_INFO, info->seq, EEB_INFO_SIZE, info->simulated);
    put(&w, EEB_VERSION_MAJOR);
    put(&w, info->spec_minor);
    put(&w, info->mode);
    put(&w, info->filter_mode);
    put_uint(&w, info->rate_num, 4u);
    put_uint(&w, info->rate_den, 4u);
    put_uint(&w, info->lsb_pv, 4u);
    put_uint(&w, info->gain_centi, 2u);
    put(&w, info->gain_id);
    put(&w, info->channels);
    for (i = 0u; i < EEB_MAX_CHANNELS; i++) {
        put(&w, info->leads[i]);
    }
    for (i = 0u; i < EEB_MAX_SERIAL; i++) {
        put(&w, (uint8_t)info->serial[i]);
    }
    put(&w, info->firmware_major);
    put(&w, info->firmware_minor);
    put_uint(&w, info->firmware_patch, 2u);
    return finish(&w);
}

size_t eeb_encode_alert(const eeb_alert *alert, uint8_t *out, size_t capacity)
{
    writer w;
    if (capacity < EEB_WIRE_SIZE(EEB_ALERT_SIZE) || !alert_fits(alert)) {
        return 0u;
    }
    put_header(&w, out, EEB_TYPE_ALERT, alert->seq, EEB_ALERT_SIZE, alert->simulated);
    put_uint(&w, alert->sample_index, 4u);
    put_uint(&w, alert->condition, 2u);
    put(&w, alert->kind);
    put(&w, alert->priority);
    put(&w, alert->present ? 1u : 0u);
    put(&w, alert->signal);
    put_uint(&w, alert->text_id, 2u);
    return finish(&w);
}

size_t eeb_encode_ack(const eeb_ack *ack, uint8_t *out, size_t capacity)
{
    writer w;
    if (capacity < EEB_WIRE_SIZE(EEB_ACK_SIZE) || !ack_fits(ack)) {
        return 0u;
    }
    put_header(&w, out, EEB_TYPE_ACK, ack->seq, EEB_ACK_SIZE, ack->simulated);
    put_uint(&w, ack->sample_index, 4u);
    put_uint(&w, ack->condition, 2u);
    put_uint(&w, ack->user_id, 2u);
    return finish(&w);
}

size_t eeb_encode_config(const eeb_config *config, uint8_t *out, size_t capacity)
{
    writer w;
    if (capacity < EEB_WIRE_SIZE(EEB_CONFIG_SIZE) || !config_fits(config)) {
        return 0u;
    }
    put_header(&w, out, EEB_TYPE_CONFIG, config->seq, EEB_CONFIG_SIZE, config->simulated);
    put_uint(&w, config->config_id, 2u);
    put_uint(&w, config->channels, 2u);
    put_uint(&w, config->rate_num, 4u);
    put_uint(&w, config->rate_den, 4u);
    put(&w, config->samples);
    put(&w, config->format);
    put(&w, config->gain_id);
    put(&w, config->filter_mode);
    put(&w, config->mode);
    return finish(&w);
}

size_t eeb_encode_config_ack(const eeb_config_ack *config_ack, uint8_t *out, size_t capacity)
{
    writer w;
    if (capacity < EEB_WIRE_SIZE(EEB_CONFIG_ACK_SIZE) || !config_ack_fits(config_ack)) {
        return 0u;
    }
    put_header(&w, out, EEB_TYPE_CONFIG_ACK, config_ack->seq, EEB_CONFIG_ACK_SIZE, config_ack->simulated);
    put_uint(&w, config_ack->sample_index, 4u);
    put_uint(&w, config_ack->config_id, 2u);
    put(&w, config_ack->status);
    put(&w, config_ack->field);
    return finish(&w);
}

size_t eeb_encode_ping(const eeb_ping *ping, uint8_t *out, size_t capacity)
{
    writer w;
    if (capacity < EEB_WIRE_SIZE(EEB_PING_SIZE)) {
        return 0u;
    }
    put_header(&w, out, EEB_TYPE_PING, ping->seq, EEB_PING_SIZE, ping->simulated);
    put_uint(&w, ping->ping_id, 4u);
    put_u64(&w, ping->t1_us);
    return finish(&w);
}

size_t eeb_encode_pong(const eeb_pong *pong, uint8_t *out, size_t capacity)
{
    writer w;
    if (capacity < EEB_WIRE_SIZE(EEB_PONG_SIZE) || !pong_fits(pong)) {
        return 0u;
    }
    put_header(&w, out, EEB_TYPE_PONG, pong->seq, EEB_PONG_SIZE, pong->simulated);
    put_uint(&w, pong->ping_id, 4u);
    put_u64(&w, pong->t1_us);
    put_u64(&w, pong->t2_us);
    put_u64(&w, pong->t3_us);
    return finish(&w);
}

size_t eeb_encode_error(const eeb_error *error, uint8_t *out, size_t capacity)
{
    writer w;
    if (capacity < EEB_WIRE_SIZE(EEB_ERROR_SIZE) || !error_fits(error)) {
        return 0u;
    }
    put_header(&w, out, EEB_TYPE_ERROR, error->seq, EEB_ERROR_SIZE, error->simulated);
    put(&w, error->code);
    put(&w, error->about_type);
    put_uint(&w, error->about_seq, 2u);
    put_uint(&w, error->detail, 4u);
    return finish(&w);
}
