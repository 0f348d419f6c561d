/* Plays the scenario's record through the C library over a UART, and writes what happened as one line of JSON. */
#include "board.h"
#include "device.h"
#include "line.h"
#include "report.h"

int main(void);

/* Outlives a reset: see mps2.ld. */
static device_tally tally __attribute__((section(".noinit")));

int main(void)
{
    uint64_t slept = 0u;
    if (SCENARIO->magic != SCENARIO_MAGIC || SCENARIO->record_samples == 0u) {
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
