/* How many instructions a frame takes: an image for QEMU's mps2-an386 (Cortex-M4), which counts with SysTick under
 * `-icount shift=5` and prints `NAME TICKS FRAMES` by semihosting. See counts.py. The samples are simulated.
 * Licence: Apache-2.0. */
#include "eeb.h"

#define FRAMES 64u
#define CHANNELS 8u
#define SAMPLES 10u
#define SYST_CSR (*(volatile uint32_t *)0xE000E010u)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014u)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018u)
#define SYST_LARGEST 0x00FFFFFFu
#define SYS_WRITE0 4u
#define SYS_EXIT 0x18u
#define EXIT_OK 0x20026u

extern uint32_t stack_top;
void reset(void);

__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void))&stack_top, reset};

static int32_t counts[CHANNELS * SAMPLES];
static uint8_t wire[EEB_MAX_WIRE];
static size_t size;
static eeb_decoder decoder;
static eeb_frame frame;
static volatile int32_t sink;
static eeb_data data = {.channels = CHANNELS, .samples = SAMPLES, .format = EEB_FORMAT_I24, .simulated = true};
static const eeb_result result = {.mpcwp_cmmhg = 1720, .low_cmmhg = 1100, .high_cmmhg = 2340, .model_id = 0xDEADBEEFu};

static uint32_t semihost(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void print_number(uint32_t number)
{
    char text[12];
    size_t at = sizeof text - 1u;
    text[at] = '\0';
    do {
        at--;
        text[at] = (char)('0' + (int)(number % 10u));
        number /= 10u;
    } while (number != 0u);
    (void)semihost(SYS_WRITE0, &text[at]);
}

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

static void measure(const char *name, void (*once)(void))
{
    uint32_t i;
    uint32_t before = SYST_CVR;
    for (i = 0u; i < FRAMES; i++) {
        once();
    }
    before -= SYST_CVR;
    (void)semihost(SYS_WRITE0, name);
    print_number(before & SYST_LARGEST);
    (void)semihost(SYS_WRITE0, " ");
    print_number(FRAMES);
    (void)semihost(SYS_WRITE0, "\n");
}

void reset(void)
{
    int32_t i;
    SYST_RVR = SYST_LARGEST;
    SYST_CVR = 0u;
    SYST_CSR = 5u;
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
    if (decoder.counters.frames == 2u * FRAMES) {
        (void)semihost(SYS_EXIT, (const void *)EXIT_OK);
    }
    (void)semihost(SYS_EXIT, (const void *)0x20023u);
    for (;;) {
    }
}
