/* Plays the scenario's record through the C library over a UART, and writes what happened as one line of JSON. */
#include "board.h"
#include "device.h"
#include "line.h"
#include "report.h"
#include "sampler.h"

int main(void);

/* Outlives a reset: see mps2.ld. */
static device_tally tally __attribute__((section(".noinit")));

static bool is_playable(const scenario *plan)
{
    return plan->magic == SCENARIO_MAGIC && plan->record_samples > 0u && plan->rate_hz > 0u
        && plan->samples_per_frame > 0u && plan->samples_per_frame <= MAX_SAMPLES_PER_FRAME
        && plan->drift_ppm > -1000000;
}

int main(void)
{
    uint64_t slept = 0u;
    if (!is_playable(SCENARIO)) {
        board_write("no scenario at 0x21000000: start QEMU with -device loader,file=...,addr=0x21000000\n");
        return EXIT_NO_SCENARIO;
    }
    board_init();
    device_start(SCENARIO, &tally);
    while (device_step()) {
        slept += board_sleep(line_waiting);
    }
    report_write((uint64_t)counter_now() - slept);
    return EXIT_DONE;
}
