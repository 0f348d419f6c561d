/* EEB v1. Every number that goes over the wire is put together byte by byte, so neither the byte order nor the
 * alignment of the processor matters. Licence: Apache-2.0. */
#include "eeb.h"

#define FULL_BLOCK 0xFFu
#define TOO_LONG (EEB_MAX_FRAME + 1u) /* a decoder's size while it waits for the delimiter */
#define FLAG_SIMULATED 1u
#define CRC_START 0xFFFFFFFFu
/* What the CRC register holds after any bytes followed by their own CRC. */
#define CRC_RESIDUE 0xB798B438u
#define ANY 0xFFu     /* in a row: no limit but the field's own width */
#define NOWHERE 0xFFu /* in a row: not in the struct; always `least` */
#define SEQ_AT 0u
#define SIMULATED_AT 2u

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
EEB_ASSERT(byte_is_eight_bits, (uint8_t)0xFFu == 255u && sizeof(uint32_t) == 4u && sizeof(bool) == 1u);
EEB_ASSERT(offsets_fit_a_byte, sizeof(eeb_info) < NOWHERE && sizeof(eeb_data) < NOWHERE);
EEB_ASSERT(members_fit_a_byte, offsetof(eeb_frame, error) <= UINT8_MAX); /* the last one */

/* ------------------------------------------------------------------------------------------ CRC-32C */

static uint32_t crc_step(uint32_t crc, uint8_t byte)
{
    /* 0x1EDC6F41 reflected, four bits at a time: 64 bytes of table. */
    static const uint32_t table[16] = {
        0x00000000u, 0x105EC76Fu, 0x20BD8EDEu, 0x30E349B1u, 0x417B1DBCu, 0x5125DAD3u, 0x61C69362u, 0x7198540Du,
        0x82F63B78u, 0x92A8FC17u, 0xA24BB5A6u, 0xB21572C9u, 0xC38D26C4u, 0xD3D3E1ABu, 0xE330A81Au, 0xF36E6F75u};
    const uint32_t mixed = crc ^ byte;
    const uint32_t half = (mixed >> 4) ^ table[mixed & 0x0Fu];
    return (half >> 4) ^ table[half & 0x0Fu];
}

uint32_t eeb_crc32c(uint32_t crc, const uint8_t *bytes, size_t size)
{
    uint32_t so_far = crc ^ CRC_START;
    size_t i;
    for (i = 0u; i < size; i++) {
        so_far = crc_step(so_far, bytes[i]);
    }
    return so_far ^ CRC_START;
}

/* ------------------------------------------------------------------------------------------ layouts */

/* One row of a table in PROTOCOL.md section 5, in its order: where the field stands in the message's struct, how many
 * bytes it has there and on the wire, and its range. With 8 bytes it may hold any number; with more it is an array of
 * bytes. */
typedef struct {
    uint8_t at;
    uint8_t width;
    uint8_t least;
    uint8_t most;
} field;

/* One message. Encoder and decoder both work from it; a firmware links the layouts of what it sends. */
typedef struct {
    uint8_t type;
    uint8_t size;                         /* of the payload; of DATA without samples */
    uint8_t rows;
    uint8_t member;                       /* where its struct stands in eeb_frame */
    const field *fields;
    bool (*agrees)(const void *message);  /* rules between fields that are in range; NULL: there are none */
} layout;

#define ROW(message, member, least, most) \
    { (uint8_t)offsetof(message, member), (uint8_t)sizeof(((const message *)NULL)->member), least, most }
#define ROWS(fields) ((uint8_t)(sizeof(fields) / sizeof((fields)[0])))
#define MEMBER(name) ((uint8_t)offsetof(eeb_frame, name))
/* Every message begins with the fields that go into the header: the code below finds them there. */
#define HEAD_FIRST(message) \
    EEB_ASSERT(head_of_##message, offsetof(message, seq) == SEQ_AT && offsetof(message, simulated) == SIMULATED_AT)

static uint32_t count_width(uint8_t format)
{
    return (uint32_t)2u + format;
}

/* DATA, section 5.1 */
HEAD_FIRST(eeb_data);
static const field data_fields[] = {
    ROW(eeb_data, sample_index, 0u, ANY),
    ROW(eeb_data, t_us, 0u, ANY),
    ROW(eeb_data, lead_off, 0u, ANY),
    ROW(eeb_data, channels, 1u, EEB_MAX_CHANNELS),
    ROW(eeb_data, samples, 1u, ANY),
    ROW(eeb_data, format, 0u, EEB_FORMAT_I24),
    ROW(eeb_data, gain_id, 0u, ANY),
};
static const layout data_layout = {
    EEB_TYPE_DATA, EEB_DATA_HEAD_SIZE, ROWS(data_fields), MEMBER(data), data_fields, NULL};

/* In 32 bits whatever the fields hold, also where size_t has 16. */
static uint32_t data_payload_size(const eeb_data *data)
{
    return EEB_DATA_HEAD_SIZE + (uint32_t)data->channels * data->samples * count_width(data->format);
}

/* RESULT, section 5.2 */
HEAD_FIRST(eeb_result);
static const field result_fields[] = {
    ROW(eeb_result, sample_index, 0u, ANY),
    ROW(eeb_result, mpcwp_cmmhg, 0u, ANY),
    ROW(eeb_result, low_cmmhg, 0u, ANY),
    ROW(eeb_result, high_cmmhg, 0u, ANY),
    ROW(eeb_result, p_elevated, 0u, ANY),
    ROW(eeb_result, sqi, 0u, ANY),
    ROW(eeb_result, validity, EEB_VALIDITY_VLD, EEB_VALIDITY_NA),
    ROW(eeb_result, model_id, 0u, ANY),
    ROW(eeb_result, latency_ms, 0u, ANY),
};

bool eeb_validity_carries_value(uint8_t validity)
{
    return validity == EEB_VALIDITY_VLD || validity == EEB_VALIDITY_VLDATED || validity == EEB_VALIDITY_QST;
}

static bool result_agrees(const void *message)
{
    const eeb_result *result = message;
    const bool low = result->low_cmmhg != EEB_NO_VALUE;
    const bool high = result->high_cmmhg != EEB_NO_VALUE;
    const bool pressure = result->mpcwp_cmmhg != EEB_NO_VALUE;
    const bool numbers = pressure || result->p_elevated != 0u;
    return low == high && (pressure || !low) && result->low_cmmhg <= result->high_cmmhg &&
           (!numbers || eeb_validity_carries_value(result->validity));
}

static const layout result_layout = {
    EEB_TYPE_RESULT, EEB_RESULT_SIZE, ROWS(result_fields), MEMBER(result), result_fields, result_agrees};

/* INFO, section 5.3 */
HEAD_FIRST(eeb_info);
static const field info_fields[] = {
    {NOWHERE, 1u, EEB_VERSION_MAJOR, EEB_VERSION_MAJOR},
    ROW(eeb_info, spec_minor, 0u, ANY),
    ROW(eeb_info, mode, EEB_MODE_REAL, EEB_MODE_DEMO),
    ROW(eeb_info, filter_mode, EEB_FILTER_UNKNOWN, EEB_FILTER_MONITORING),
    ROW(eeb_info, rate_num, 1u, ANY),
    ROW(eeb_info, rate_den, 1u, ANY),
    ROW(eeb_info, lsb_pv, 1u, ANY),
    ROW(eeb_info, gain_centi, 1u, ANY),
    ROW(eeb_info, gain_id, 0u, ANY),
    ROW(eeb_info, channels, 1u, EEB_MAX_CHANNELS),
    ROW(eeb_info, leads, 0u, ANY),
    {(uint8_t)offsetof(eeb_info, serial), EEB_MAX_SERIAL, 0u, ANY},
    ROW(eeb_info, firmware_major, 0u, ANY),
    ROW(eeb_info, firmware_minor, 0u, ANY),
    ROW(eeb_info, firmware_patch, 0u, ANY),
};

/* No known lead twice, and nothing behind the last channel. */
static bool leads_agree(const eeb_info *info)
{
    uint32_t seen = 0u;
    bool ok = true;
    size_t i;
    for (i = 0u; i < EEB_MAX_CHANNELS; i++) {
        const uint8_t code = info->leads[i];
        const uint32_t lead = code <= EEB_LEAD_V6 ? ((uint32_t)1u << code) & ~(uint32_t)1u : 0u;
        ok = ok && (seen & lead) == 0u && (i < info->channels || code == EEB_LEAD_NONE);
        seen |= lead;
    }
    return ok;
}

/* Printable characters, then zeros to the end. A byte above 127 is refused whether char is signed or not. */
static bool serial_agrees(const char *serial)
{
    bool ok = serial[0] != '\0';
    bool ended = false;
    size_t i;
    for (i = 0u; i < EEB_MAX_SERIAL; i++) {
        const bool is_printable = serial[i] >= '!' && serial[i] <= '~';
        ok = ok && (serial[i] == '\0' || (is_printable && !ended));
        ended = ended || serial[i] == '\0';
    }
    return ok;
}

static bool info_agrees(const void *message)
{
    const eeb_info *info = message;
    return info->simulated == (info->mode != EEB_MODE_REAL) && leads_agree(info) && serial_agrees(info->serial);
}

static const layout info_layout = {
    EEB_TYPE_INFO, EEB_INFO_SIZE, ROWS(info_fields), MEMBER(info), info_fields, info_agrees};

/* ALERT, section 5.4 */
HEAD_FIRST(eeb_alert);
static const field alert_fields[] = {
    ROW(eeb_alert, sample_index, 0u, ANY),
    ROW(eeb_alert, condition, 1u, ANY),
    ROW(eeb_alert, kind, EEB_KIND_PHYSIOLOGICAL, EEB_KIND_TECHNICAL),
    ROW(eeb_alert, priority, EEB_PRIORITY_NONE, EEB_PRIORITY_HIGH),
    ROW(eeb_alert, present, 0u, 1u),
    ROW(eeb_alert, signal, EEB_SIGNAL_OFF, EEB_SIGNAL_ACKNOWLEDGED),
    ROW(eeb_alert, text_id, 0u, ANY),
};

static bool alert_agrees(const void *message)
{
    const eeb_alert *alert = message;
    return alert->present == (alert->signal == EEB_SIGNAL_ON || alert->signal == EEB_SIGNAL_ACKNOWLEDGED);
}

static const layout alert_layout = {
    EEB_TYPE_ALERT, EEB_ALERT_SIZE, ROWS(alert_fields), MEMBER(alert), alert_fields, alert_agrees};

/* ACK, section 5.5 */
HEAD_FIRST(eeb_ack);
static const field ack_fields[] = {
    ROW(eeb_ack, sample_index, 0u, ANY),
    ROW(eeb_ack, condition, 1u, ANY),
    ROW(eeb_ack, user_id, 0u, ANY),
};
static const layout ack_layout = {EEB_TYPE_ACK, EEB_ACK_SIZE, ROWS(ack_fields), MEMBER(ack), ack_fields, NULL};

/* CONFIG, section 5.6 */
HEAD_FIRST(eeb_config);
static const field config_fields[] = {
    ROW(eeb_config, config_id, 0u, ANY),
    ROW(eeb_config, channels, 1u, ANY),
    ROW(eeb_config, rate_num, 1u, ANY),
    ROW(eeb_config, rate_den, 1u, ANY),
    ROW(eeb_config, samples, 1u, ANY),
    ROW(eeb_config, format, 0u, EEB_FORMAT_I24),
    ROW(eeb_config, gain_id, 0u, ANY),
    ROW(eeb_config, filter_mode, EEB_FILTER_UNKNOWN, EEB_FILTER_MONITORING),
    ROW(eeb_config, mode, EEB_MODE_REAL, EEB_MODE_DEMO),
};

static bool config_agrees(const void *message)
{
    const eeb_config *config = message;
    const uint32_t sample = config->samples * count_width(config->format);
    uint32_t payload = EEB_DATA_HEAD_SIZE;
    uint32_t bits;
    for (bits = config->channels; bits != 0u; bits >>= 1) {
        payload += (bits & 1u) != 0u ? sample : 0u;
    }
    return payload <= EEB_MAX_PAYLOAD;
}

static const layout config_layout = {
    EEB_TYPE_CONFIG, EEB_CONFIG_SIZE, ROWS(config_fields), MEMBER(config), config_fields, config_agrees};

/* CONFIG_ACK, section 5.7 */
HEAD_FIRST(eeb_config_ack);
static const field config_ack_fields[] = {
    ROW(eeb_config_ack, sample_index, 0u, ANY),
    ROW(eeb_config_ack, config_id, 0u, ANY),
    ROW(eeb_config_ack, status, EEB_CONFIG_APPLIED, EEB_CONFIG_FAILED),
    ROW(eeb_config_ack, field, 0u, EEB_CONFIG_SIZE - 1u),
};

static bool config_ack_agrees(const void *message)
{
    const eeb_config_ack *ack = message;
    return ack->field == 0u || ack->status != EEB_CONFIG_APPLIED;
}

static const layout config_ack_layout = {
    EEB_TYPE_CONFIG_ACK, EEB_CONFIG_ACK_SIZE, ROWS(config_ack_fields), MEMBER(config_ack), config_ack_fields,
    config_ack_agrees};

/* PING, section 5.8 */
HEAD_FIRST(eeb_ping);
static const field ping_fields[] = {
    ROW(eeb_ping, ping_id, 0u, ANY),
    ROW(eeb_ping, t1_us, 0u, ANY),
};
static const layout ping_layout = {
    EEB_TYPE_PING, EEB_PING_SIZE, ROWS(ping_fields), MEMBER(ping), ping_fields, NULL};

/* PONG, section 5.9 */
HEAD_FIRST(eeb_pong);
static const field pong_fields[] = {
    ROW(eeb_pong, ping_id, 0u, ANY),
    ROW(eeb_pong, t1_us, 0u, ANY),
    ROW(eeb_pong, t2_us, 0u, ANY),
    ROW(eeb_pong, t3_us, 0u, ANY),
};

static bool pong_agrees(const void *message)
{
    const eeb_pong *pong = message;
    return pong->t3_us >= pong->t2_us;
}

static const layout pong_layout = {
    EEB_TYPE_PONG, EEB_PONG_SIZE, ROWS(pong_fields), MEMBER(pong), pong_fields, pong_agrees};

/* ERROR, section 5.10 */
HEAD_FIRST(eeb_error);
static const field error_fields[] = {
    ROW(eeb_error, code, 1u, ANY),
    ROW(eeb_error, about_type, 0u, ANY),
    ROW(eeb_error, about_seq, 0u, ANY),
    ROW(eeb_error, detail, 0u, ANY),
};
static const layout error_layout = {
    EEB_TYPE_ERROR, EEB_ERROR_SIZE, ROWS(error_fields), MEMBER(error), error_fields, NULL};

/* ------------------------------------------------------------------------------------------ fields */

static bool in_range(const field *f, uint32_t value)
{
    return value >= f->least && (f->most == ANY || value <= f->most);
}

static bool agrees(const layout *l, const void *message)
{
    return l->agrees == NULL || l->agrees(message);
}

/* A number of at most 4 bytes in a message's struct. Each access has the type of the member that stands there. */
static uint32_t load(const void *from, size_t width)
{
    uint32_t value;
    switch (width) {
    case 2u: value = *(const uint16_t *)from; break;
    case 4u: value = *(const uint32_t *)from; break;
    default: value = *(const uint8_t *)from; break;
    }
    return value;
}

static void store(void *to, size_t width, uint32_t value)
{
    switch (width) {
    case 2u: *(uint16_t *)to = (uint16_t)value; break;
    case 4u: *(uint32_t *)to = value; break;
    default: *(uint8_t *)to = (uint8_t)value; break;
    }
}

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

static uint32_t get_uint(const uint8_t *at, size_t width)
{
    uint32_t value;
    switch (width) {
    case 2u: value = get_u16(at); break;
    case 4u: value = get_u32(at); break;
    default: value = at[0]; break;
    }
    return value;
}

/* ------------------------------------------------------------------------------------------ decoder */

static void begin_frame(eeb_decoder *d)
{
    d->crc = CRC_START;
    d->size = 0u;
    d->left = 0u;
    d->zero_due = false;
}

void eeb_decoder_init(eeb_decoder *decoder)
{
    eeb_counters *c = &decoder->counters;
    c->frames = 0u;
    c->bad_cobs = 0u;
    c->oversize = 0u;
    c->bad_length = 0u;
    c->bad_crc = 0u;
    c->bad_version = 0u;
    c->unknown_type = 0u;
    c->bad_field = 0u;
    c->long_payload = 0u;
    c->lost_frames = 0u;
    c->seq_back = 0u;
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
        d->size = TOO_LONG;
    }
}

static void take(eeb_decoder *d, uint8_t byte)
{
    uint8_t decoded = byte;
    bool wanted = true;
    if (d->left > 0u) {
        d->left--;
    } else {
        decoded = 0u;
        wanted = d->zero_due;
        d->left = (uint8_t)(byte - 1u);
        d->zero_due = byte != FULL_BLOCK;
    }
    if (wanted) {
        keep(d, decoded);
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

static const layout *find_layout(uint8_t type)
{
    static const layout *const layouts[] = {
        &data_layout,   &result_layout,     &info_layout, &alert_layout, &ack_layout,
        &config_layout, &config_ack_layout, &ping_layout, &pong_layout,  &error_layout};
    const layout *found = NULL;
    size_t i;
    for (i = 0u; i < sizeof layouts / sizeof layouts[0]; i++) {
        if (layouts[i]->type == type) {
            found = layouts[i];
        }
    }
    return found;
}

/* A number out of its range is not stored: a bool never holds one that it must not. */
static bool read_number(const field *f, const uint8_t *at, uint8_t *message)
{
    const uint32_t value = get_uint(at, f->width);
    const bool ok = in_range(f, value);
    if (ok && f->at != NOWHERE) {
        store(message + f->at, f->width, value);
    }
    return ok;
}

static bool read_fields(const layout *l, const uint8_t *payload, uint8_t *message)
{
    const uint8_t *at = payload;
    bool ok = true;
    size_t row;
    for (row = 0u; row < l->rows; row++) {
        const field *f = &l->fields[row];
        if (f->width < sizeof(uint64_t)) {
            ok = read_number(f, at, message) && ok;
        } else if (f->width == sizeof(uint64_t)) {
            *(uint64_t *)(void *)(message + f->at) = get_u64(at);
        } else {
            size_t i;
            for (i = 0u; i < f->width; i++) {
                message[f->at + i] = at[i];
            }
        }
        at += f->width;
    }
    return ok && agrees(l, message);
}

/* Steps 9 to 13 of PROTOCOL.md section 6. */
static bool read_payload(eeb_decoder *d, eeb_frame *frame)
{
    const uint8_t *payload = d->buffer + EEB_HEADER_SIZE;
    const size_t size = (size_t)d->size - EEB_HEADER_SIZE - EEB_CRC_SIZE;
    const layout *l = find_layout(d->buffer[1]);
    uint8_t *message;
    uint32_t whole;
    bool ok = false;

    if (l == NULL) {
        d->counters.unknown_type++;
        return false;
    }
    if (size < l->size) {
        d->counters.bad_length++;
        return false;
    }
    frame->type = l->type;
    message = (uint8_t *)frame + l->member;
    store(message + SEQ_AT, 2u, get_u16(d->buffer + 2));
    store(message + SIMULATED_AT, 1u, d->buffer[6] & FLAG_SIMULATED);
    if (!read_fields(l, payload, message)) {
        d->counters.bad_field++;
        return false;
    }
    whole = l->size;
    if (l->type == EEB_TYPE_DATA) {
        frame->data.packed = payload + EEB_DATA_HEAD_SIZE;
        whole = data_payload_size(&frame->data);
    } else if (l->type == EEB_TYPE_INFO) {
        frame->info.serial[EEB_MAX_SERIAL] = '\0';
    } else {
        /* The other messages are their fields. */
    }
    if (size < whole) {
        d->counters.bad_length++;
    } else {
        ok = true;
        d->counters.frames++;
        d->counters.long_payload += size > whole ? 1u : 0u;
    }
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
        take(decoder, byte);
        return false;
    }
    if (decoder->size == TOO_LONG) {
        decoder->counters.oversize++;
    } else if (decoder->left > 0u) {
        decoder->counters.bad_cobs++;
    } else if (decoder->zero_due || decoder->size > 0u) {
        complete = judge(decoder, frame);
    } else {
        /* Delimiters in a row: an idle line, or a sender that flushes. */
    }
    begin_frame(decoder);
    return complete;
}

int32_t eeb_data_count(const eeb_data *data, uint8_t sample, uint8_t channel)
{
    const size_t width = count_width(data->format);
    const uint8_t *at;
    uint32_t value;
    uint32_t sign;
    if (sample >= data->samples || channel >= data->channels) {
        return 0;
    }
    at = data->packed + ((size_t)sample * data->channels + channel) * width;
    value = (uint32_t)get_u16(at);
    sign = 0x8000u;
    if (data->format == EEB_FORMAT_I24) {
        value |= (uint32_t)at[2] << 16;
        sign = 0x800000u;
    }
    /* Two's complement, without a conversion that C leaves to the compiler. */
    value ^= sign;
    return (int32_t)value - (int32_t)sign;
}

/* ------------------------------------------------------------------------------------------ encoder */

/* Stuffs and checks byte by byte straight into the caller's buffer: no second buffer, no second pass. */
typedef struct {
    uint8_t *at;    /* where the next byte goes */
    uint8_t *code;  /* where the current block's code byte will stand */
    uint32_t crc;
} writer;

static void end_block(writer *w)
{
    const ptrdiff_t length = w->at - w->code;
    *w->code = (uint8_t)length;
    w->code = w->at;
    w->at++;
}

static void put(writer *w, uint8_t byte)
{
    w->crc = crc_step(w->crc, byte);
    if (w->at - w->code == (ptrdiff_t)FULL_BLOCK) {
        end_block(w);
    }
    if (byte == 0u) {
        end_block(w);
    } else {
        *w->at = byte;
        w->at++;
    }
}

/* At most 4 bytes of a number. */
static void put_uint(writer *w, uint32_t value, size_t width)
{
    uint32_t rest = value;
    size_t i;
    for (i = 0u; i < width; i++) {
        put(w, (uint8_t)(rest & 0xFFu));
        rest >>= 8;
    }
}

static void put_u64(writer *w, uint64_t value)
{
    put_uint(w, (uint32_t)(value & 0xFFFFFFFFu), 4u);
    put_uint(w, (uint32_t)(value >> 32), 4u);
}

static bool put_number(writer *w, const field *f, const uint8_t *message)
{
    const uint32_t value = f->at == NOWHERE ? f->least : load(message + f->at, f->width);
    put_uint(w, value, f->width);
    return in_range(f, value);
}

/* False where a field is out of its range; what was put is then of no use. */
static bool put_fields(writer *w, const layout *l, const uint8_t *message)
{
    bool ok = true;
    size_t row;
    for (row = 0u; row < l->rows; row++) {
        const field *f = &l->fields[row];
        if (f->width < sizeof(uint64_t)) {
            ok = put_number(w, f, message) && ok;
        } else if (f->width == sizeof(uint64_t)) {
            put_u64(w, *(const uint64_t *)(const void *)(message + f->at));
        } else {
            size_t i;
            for (i = 0u; i < f->width; i++) {
                put(w, message[f->at + i]);
            }
        }
    }
    return ok;
}

/* Header and fields; false where the message or the room is not right. */
static bool begin(writer *w, const layout *l, const void *message, uint32_t payload, uint8_t *out, size_t capacity)
{
    const uint8_t *bytes = message;
    if (payload > EEB_MAX_PAYLOAD || capacity < EEB_WIRE_SIZE(payload)) {
        return false;
    }
    w->code = out;
    w->at = out + 1;
    w->crc = CRC_START;
    put(w, EEB_VERSION_MAJOR);
    put(w, l->type);
    put_uint(w, load(bytes + SEQ_AT, 2u), 2u);
    put_uint(w, payload, 2u);
    put_uint(w, load(bytes + SIMULATED_AT, 1u) != 0u ? FLAG_SIMULATED : 0u, 2u);
    return put_fields(w, l, bytes) && agrees(l, message);
}

/* Returns the bytes from `out` on. */
static size_t finish(writer *w, const uint8_t *out)
{
    ptrdiff_t size;
    put_uint(w, w->crc ^ CRC_START, 4u);
    end_block(w);
    *w->code = 0u;
    size = w->at - out;
    return (size_t)size;
}

static size_t encode(const layout *l, const void *message, uint8_t *out, size_t capacity)
{
    writer w;
    return begin(&w, l, message, l->size, out, capacity) ? finish(&w, out) : 0u;
}

size_t eeb_encode_data(const eeb_data *data, const int32_t *counts, uint8_t *out, size_t capacity)
{
    const size_t total = (size_t)data->channels * data->samples;
    const size_t width = count_width(data->format);
    const int32_t limit = data->format == EEB_FORMAT_I16 ? 0x8000 : 0x800000;
    writer w;
    size_t i;
    if (!begin(&w, &data_layout, data, data_payload_size(data), out, capacity)) {
        return 0u;
    }
    for (i = 0u; i < total; i++) {
        if (counts[i] < -limit || counts[i] >= limit) {
            return 0u;
        }
        put_uint(&w, (uint32_t)counts[i], width);
    }
    return finish(&w, out);
}

size_t eeb_encode_result(const eeb_result *result, uint8_t *out, size_t capacity)
{
    return encode(&result_layout, result, out, capacity);
}

size_t eeb_encode_info(const eeb_info *info, uint8_t *out, size_t capacity)
{
    return encode(&info_layout, info, out, capacity);
}

size_t eeb_encode_alert(const eeb_alert *alert, uint8_t *out, size_t capacity)
{
    return encode(&alert_layout, alert, out, capacity);
}

size_t eeb_encode_ack(const eeb_ack *ack, uint8_t *out, size_t capacity)
{
    return encode(&ack_layout, ack, out, capacity);
}

size_t eeb_encode_config(const eeb_config *config, uint8_t *out, size_t capacity)
{
    return encode(&config_layout, config, out, capacity);
}

size_t eeb_encode_config_ack(const eeb_config_ack *config_ack, uint8_t *out, size_t capacity)
{
    return encode(&config_ack_layout, config_ack, out, capacity);
}

size_t eeb_encode_ping(const eeb_ping *ping, uint8_t *out, size_t capacity)
{
    return encode(&ping_layout, ping, out, capacity);
}

size_t eeb_encode_pong(const eeb_pong *pong, uint8_t *out, size_t capacity)
{
    return encode(&pong_layout, pong, out, capacity);
}

size_t eeb_encode_error(const eeb_error *error, uint8_t *out, size_t capacity)
{
    return encode(&error_layout, error, out, capacity);
}
