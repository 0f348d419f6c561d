/* How many instructions a frame takes: an image for QEMU that prints `NAME TICKS FRAMES`. See counts.py. The samples are
 * simulated. Licence: Apache-2.0. */
#include "counts.h"
#include "eeb.h"

#define CHANNELS 8u
#define SAMPLES 10u

static int32_t counts[CHANNELS * SAMPLES];
static uint8_t wire[EEB_MAX_WIRE];
static size_t size;
static eeb_decoder decoder;
static eeb_frame frame;
static volatile int32_t sink;
static eeb_data data = {.channels = CHANNELS, .samples = SAMPLES, .format = EEB_FORMAT_I24, .simulated = true};
static const eeb_result result = {.mpcwp_cmmhg = 1720, .low_cmmhg = 1100, .high_cmmhg = 2340, .model_id = 0xDEADBEEFu};
static const eeb_info info = {
    .rate_num = 500u, .rate_den = 1u, .lsb_pv = 286102u, .gain_centi = 600u, .channels = CHANNELS,
    .serial = "ABCDEFGH01234567",
    .leads = {EEB_LEAD_I, EEB_LEAD_II, EEB_LEAD_V1, EEB_LEAD_V2, EEB_LEAD_V3, EEB_LEAD_V4, EEB_LEAD_V5, EEB_LEAD_V6}};
static const eeb_config config = {
    .channels = 0xFFu, .rate_num = 500u, .rate_den = 1u, .samples = SAMPLES, .format = EEB_FORMAT_I24};

static void encode_data(void)
{
    size = eeb_encode_data(&data, counts, wire, sizeof wire);
    data.seq++;
    data.sample_index += SAMPLES;
    data.t_us += 20000u;
}

static void decode(void)
{
    size_t i;
    for (i = 0u; i < size; i++) {
        (void)eeb_decoder_push(&decoder, wire[i], &frame);
    }
}

static void read_counts(void)
{
    uint8_t sample;
    uint8_t channel;
    for (sample = 0u; sample < SAMPLES; sample++) {
        for (channel = 0u; channel < CHANNELS; channel++) {
            sink = eeb_data_count(&frame.data, sample, channel);
        }
    }
}

static void encode_result(void)
{
    size = eeb_encode_result(&result, wire, sizeof wire);
}

/* The longest that a byte of the frame in `wire` takes: its delimiter. */
static void measure_longest_push(const char *name)
{
    uint32_t longest = 0u;
    size_t i;
    for (i = 0u; i < size; i++) {
        const uint32_t before = SYST_CVR;
        uint32_t ticks;
        (void)eeb_decoder_push(&decoder, wire[i], &frame);
        ticks = ticks_since(before);
        longest = ticks > longest ? ticks : longest;
    }
    print_row(name, longest, 1u);
}

void reset(void)
{
    int32_t i;
    start_counting();
    for (i = 0; i < (int32_t)(CHANNELS * SAMPLES); i++) {
        /* A wave of three bytes a count, with a few small ones and zeros in it. */
        counts[i] = (i % 9 == 0) ? 0 : (i * i * 97) - (i * 7001);
    }
    eeb_decoder_init(&decoder);
    measure("encode_data ", encode_data);
    measure("decode_data ", decode);
    measure("read_counts ", read_counts);
    measure("encode_result ", encode_result);
    measure("decode_result ", decode);
    size = eeb_encode_info(&info, wire, sizeof wire);
    measure_longest_push("info_delimiter ");
    size = eeb_encode_config(&config, wire, sizeof wire);
    measure_longest_push("config_delimiter ");
    leave(decoder.counters.frames == 2u * FRAMES + 2u);
}
