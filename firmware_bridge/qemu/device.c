#include "device.h"

#include "board.h"
#include "sampler.h"

#define TALLY_MAGIC 0x54414C59u
#define SECOND_US 1000000u
#define INFO_EVERY_US (5u * SECOND_US)
#define HOST_LOST_US (15u * SECOND_US)
#define ACK_AGAIN_US SECOND_US
#define MAX_ACKS 3u
#define GAIN_ID 1u

static const scenario *plan;
static device_tally *tally;
static device_display display;
static device_clock host_clock;
static eeb_decoder decoder;
static eeb_frame received;
static uint8_t wire[EEB_MAX_WIRE];
static uint16_t seq;
static uint32_t ping_id;
static uint64_t ping_sent_us;
static uint64_t info_sent_us;
static uint64_t heard_us;
static uint64_t error_sent_us;
static uint64_t host_restarted_us; /* 0: it has not */
static uint64_t done_us;
static uint32_t refused_versions;
static uint32_t host_starts;
static bool info_due;
static bool played;   /* all samples have left */
static bool answered; /* and as many results have come as were to be waited for */

/* ------------------------------------------------------------------------------------------- sending */

/* Every frame that is made takes a number, sent or not: so the host's `lost_frames` shows what had no room. */
static bool send(size_t size, uint32_t *count)
{
    seq++;
    if (size == 0u) {
        board_exit(EXIT_INTERNAL); /* a field of ours that the library refuses */
    }
    if (!line_send(wire, size)) {
        return false;
    }
    (*count)++;
    return true;
}

static void send_control(size_t size, uint32_t *count)
{
    if (!send(size, count)) {
        tally->control_no_room++;
    }
}

static void send_info(void)
{
    eeb_info info = {
        .seq = seq, .simulated = true, .spec_minor = EEB_VERSION_MINOR, .mode = EEB_MODE_DEMO,
        .filter_mode = EEB_FILTER_UNKNOWN, .rate_num = plan->rate_hz, .rate_den = 1u, .lsb_pv = plan->lsb_pv,
        .gain_centi = (uint16_t)plan->gain_centi, .gain_id = GAIN_ID, .channels = SCENARIO_CHANNELS,
        .serial = "QEMU-AN386", .firmware_major = 1u, .firmware_minor = 0u, .firmware_patch = 0u,
    };
    uint32_t i;
    for (i = 0u; i < SCENARIO_CHANNELS; i++) {
        info.leads[i] = plan->leads[i];
    }
    info_sent_us = device_us();
    info_due = false;
    send_control(eeb_encode_info(&info, wire, sizeof wire), &tally->info_sent);
}

static void send_data(const block *from)
{
    const eeb_data data = {
        .seq = seq, .simulated = true, .sample_index = from->sample_index, .t_us = from->t_us,
        .lead_off = from->lead_off, .channels = SCENARIO_CHANNELS, .samples = from->samples,
        .format = EEB_FORMAT_I24, .gain_id = GAIN_ID,
    };
    if (send(eeb_encode_data(&data, from->counts, wire, sizeof wire), &tally->data_sent)) {
        tally->samples_sent += from->samples;
    } else {
        tally->data_no_room++;
    }
}

static void send_error(uint8_t code, uint8_t about_type, uint16_t about_seq, uint32_t detail)
{
    const uint64_t now_us = device_us();
    const eeb_error error = {
        .seq = seq, .code = code, .about_type = about_type, .about_seq = about_seq, .detail = detail,
    };
    if (error_sent_us != 0u && now_us - error_sent_us < SECOND_US) {
        return;
    }
    error_sent_us = now_us;
    send_control(eeb_encode_error(&error, wire, sizeof wire), &tally->errors_sent);
}

static void send_ack(device_alert *alert)
{
    const uint32_t taken = sampler_index();
    const eeb_ack ack = {
        .seq = seq, .sample_index = taken > 0u ? taken - 1u : 0u, .condition = alert->condition, .user_id = 0u,
    };
    alert->acks++;
    alert->since_us = device_us();
    send_control(eeb_encode_ack(&ack, wire, sizeof wire), &tally->acks_sent);
}

static void send_ping(void)
{
    const eeb_ping ping = {.seq = seq, .ping_id = ping_id + 1u, .t1_us = device_us()};
    ping_id = ping.ping_id;
    ping_sent_us = ping.t1_us;
    send_control(eeb_encode_ping(&ping, wire, sizeof wire), &tally->pings_sent);
}

/* ------------------------------------------------------------------------------------------ hearing */

static void on_result(const eeb_result *result)
{
    display.last = *result;
    display.has_number = eeb_validity_carries_value(result->validity) && result->mpcwp_cmmhg != EEB_NO_VALUE;
    tally->results++;
    tally->results_with_value += display.has_number ? 1u : 0u;
}

/* The place of a condition, or a free one; NULL if there is neither. */
static device_alert *find_alert(uint16_t condition)
{
    device_alert *place = NULL;
    uint32_t i;
    for (i = 0u; i < DEVICE_ALERTS; i++) {
        device_alert *at = &display.alerts[i];
        if (at->condition == condition) {
            return at;
        }
        if (at->condition == 0u && place == NULL) {
            place = at;
        }
    }
    return place;
}

static void on_alert(const eeb_alert *alert)
{
    device_alert *shown = find_alert(alert->condition);
    tally->alerts++;
    if (shown == NULL) {
        tally->alerts_untracked++;
        return;
    }
    if (shown->condition == 0u) {
        *shown = (device_alert){.condition = alert->condition};
    }
    if (alert->signal != shown->signal) {
        tally->acks_granted += alert->signal == EEB_SIGNAL_ACKNOWLEDGED && shown->acks > 0u ? 1u : 0u;
        shown->since_us = device_us();
        shown->acks = 0u;
    }
    shown->kind = alert->kind;
    shown->priority = alert->priority;
    shown->signal = alert->signal;
    shown->told_us = device_us();
    if (alert->signal == EEB_SIGNAL_OFF) {
        shown->condition = 0u;
    }
}

static void on_ping(const eeb_ping *ping)
{
    const uint64_t came_us = device_us();
    const eeb_pong pong = {
        .seq = seq, .ping_id = ping->ping_id, .t1_us = ping->t1_us, .t2_us = came_us, .t3_us = device_us(),
    };
    tally->pings++;
    send_control(eeb_encode_pong(&pong, wire, sizeof wire), &tally->pongs_sent);
}

static void on_pong(const eeb_pong *pong)
{
    const int64_t there = (int64_t)(pong->t2_us - pong->t1_us);
    const int64_t back = (int64_t)(pong->t3_us - device_us());
    const int64_t round_trip = there - back;
    if (pong->ping_id != ping_id || pong->t1_us != ping_sent_us) {
        return; /* to no open PING */
    }
    if (round_trip < 0) {
        tally->pongs_impossible++;
        return;
    }
    tally->pongs++;
    host_clock = (device_clock){.offset_us = (there + back) / 2, .round_trip_us = round_trip};
}

/* Offset in CONFIG of the first field that this device cannot follow; 0: it can. */
static uint8_t config_refused(const eeb_config *config)
{
    uint8_t field = 0u;
    if (config->channels != (1u << SCENARIO_CHANNELS) - 1u) {
        field = 2u;
    } else if (config->rate_num != (uint64_t)plan->rate_hz * config->rate_den) {
        field = 4u;
    } else if (config->samples > MAX_SAMPLES_PER_FRAME) {
        field = 12u;
    } else if (config->format != EEB_FORMAT_I24) {
        field = 13u;
    } else if (config->gain_id != GAIN_ID) {
        field = 14u;
    } else if (config->filter_mode != EEB_FILTER_UNKNOWN) {
        field = 15u;
    } else if (config->mode != EEB_MODE_DEMO) {
        field = 16u;
    } else {
        /* All as it is, but perhaps the length of a frame. */
    }
    return field;
}

static void on_config(const eeb_config *config)
{
    const uint8_t field = config_refused(config);
    const uint32_t first = field == 0u ? sampler_frame(config->samples) : 0u;
    const eeb_config_ack ack = {
        .seq = seq, .sample_index = first, .config_id = config->config_id,
        .status = (uint8_t)(field == 0u ? EEB_CONFIG_APPLIED : EEB_CONFIG_UNSUPPORTED), .field = field,
    };
    tally->configs++;
    info_due = info_due || field == 0u;
    send_control(eeb_encode_config_ack(&ack, wire, sizeof wire), &tally->config_acks_sent);
}

static void on_error(const eeb_error *error)
{
    tally->errors++;
    if (error->code == EEB_ERROR_VERSION) {
        display.host_present = false;
    }
}

static void on_frame(const eeb_frame *frame)
{
    heard_us = device_us();
    display.host_present = true;
    switch (frame->type) {
    case EEB_TYPE_RESULT: on_result(&frame->result); break;
    case EEB_TYPE_ALERT: on_alert(&frame->alert); break;
    case EEB_TYPE_CONFIG: on_config(&frame->config); break;
    case EEB_TYPE_PING: on_ping(&frame->ping); break;
    case EEB_TYPE_PONG: on_pong(&frame->pong); break;
    case EEB_TYPE_ERROR: on_error(&frame->error); break;
    default: tally->unexpected++; break;
    }
}

static void watch_counters(void)
{
    if (decoder.counters.bad_version != refused_versions) {
        refused_versions = decoder.counters.bad_version;
        display.host_present = false;
        send_error(EEB_ERROR_VERSION, 0u, 0u, EEB_VERSION_MAJOR);
    }
    if (decoder.counters.seq_back != host_starts) {
        host_starts = decoder.counters.seq_back;
        host_restarted_us = device_us();
    }
}

static void listen(void)
{
    uint8_t byte;
    while (line_receive(&byte)) {
        if (eeb_decoder_push(&decoder, byte, &received)) {
            on_frame(&received);
        }
        watch_counters();
    }
}

/* ------------------------------------------------------------------------------------------- time */

/* Take off the alarms of which the host has not spoken since `us`. */
static void expire_alerts(uint64_t us)
{
    uint32_t i;
    for (i = 0u; i < DEVICE_ALERTS; i++) {
        device_alert *alert = &display.alerts[i];
        if (alert->condition != 0u && alert->told_us < us) {
            alert->condition = 0u;
            tally->alerts_expired++;
        }
    }
}

static void watch_host(uint64_t now_us)
{
    if (display.host_present && now_us - heard_us > HOST_LOST_US) {
        display.host_present = false;
        display.has_number = false;
        tally->host_lost++;
        expire_alerts(now_us);
    }
    if (host_restarted_us != 0u && now_us - host_restarted_us > HOST_LOST_US) {
        expire_alerts(host_restarted_us);
        host_restarted_us = 0u;
    }
}

static void press_buttons(uint64_t now_us)
{
    uint32_t i;
    if (plan->ack_after_ms == NEVER) {
        return;
    }
    for (i = 0u; i < DEVICE_ALERTS; i++) {
        device_alert *alert = &display.alerts[i];
        const uint64_t wait_us = alert->acks > 0u ? ACK_AGAIN_US : (uint64_t)plan->ack_after_ms * 1000u;
        if (alert->condition != 0u && alert->signal == EEB_SIGNAL_ON && alert->acks < MAX_ACKS
            && now_us - alert->since_us >= wait_us) {
            send_ack(alert);
        }
    }
}

static void send_blocks(void)
{
    const block *ready = sampler_block();
    const bool stepped = (plan->flags & FLAG_STEPPED) != 0u;
    while (ready != NULL && (!stepped || line_room() >= EEB_MAX_WIRE)) {
        send_data(ready);
        sampler_release();
        ready = sampler_block();
    }
}

static device_tally counted(void)
{
    device_tally all = *tally;
    const eeb_counters *now = &decoder.counters;
    all.wire.frames += now->frames;
    all.wire.bad_cobs += now->bad_cobs;
    all.wire.oversize += now->oversize;
    all.wire.bad_length += now->bad_length;
    all.wire.bad_crc += now->bad_crc;
    all.wire.bad_version += now->bad_version;
    all.wire.unknown_type += now->unknown_type;
    all.wire.bad_field += now->bad_field;
    all.wire.long_payload += now->long_payload;
    all.wire.lost_frames += now->lost_frames;
    all.wire.seq_back += now->seq_back;
    return all;
}

/* As a watchdog would: at once, with frames half sent. The record goes on meanwhile. */
static void reset_if_due(void)
{
    if (tally->boots == 1u && tally->position >= plan->reset_at) {
        (void)irq_off();
        *tally = counted();
        tally->position += plan->reset_gap;
        board_reset();
    }
}

/* First all samples leave, then the results come, then it listens a while. */
static bool is_over(uint64_t now_us)
{
    if (!played && sampler_done() && sampler_block() == NULL && line_idle()) {
        played = true;
        sampler_pause(true);
    }
    if (played && !answered && tally->results >= plan->wait_results) {
        answered = true;
        done_us = now_us;
        sampler_pause(false);
    }
    return answered && now_us - done_us >= (uint64_t)plan->linger_ms * 1000u && line_idle();
}

/* As long as a chip is away that loads its program first: what the record loses meanwhile. */
static void start_slowly(void)
{
    const uint32_t ticks = plan->reset_gap * (BOARD_CLOCK_HZ / plan->rate_hz);
    while (counter_now() < ticks) {
    }
}

void device_start(const scenario *chosen, device_tally *kept)
{
    static const uint8_t delimiter = 0u;
    plan = chosen;
    tally = kept;
    if (tally->magic != TALLY_MAGIC) {
        *tally = (device_tally){.magic = TALLY_MAGIC};
    }
    tally->boots++;
    eeb_decoder_init(&decoder);
    line_init(plan, tally->boots, &tally->line);
    if (tally->boots > 1u && (plan->flags & FLAG_STEPPED) == 0u) {
        start_slowly();
    }
    (void)line_send(&delimiter, 1u);
    send_info();
    sampler_start(plan, &tally->position);
}

bool device_step(void)
{
    uint64_t now_us;
    listen();
    now_us = device_us(); /* not before what listen() has noted */
    if (info_due || now_us - info_sent_us >= INFO_EVERY_US) {
        send_info();
    }
    if (plan->ping_every_ms != NEVER && now_us - ping_sent_us >= (uint64_t)plan->ping_every_ms * 1000u) {
        send_ping();
    }
    watch_host(now_us);
    press_buttons(now_us);
    send_blocks();
    reset_if_due();
    return !is_over(now_us);
}

const device_display *device_shown(void)
{
    return &display;
}

const device_clock *device_host_clock(void)
{
    return &host_clock;
}

device_tally device_counted(void)
{
    return counted();
}
