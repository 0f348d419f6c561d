/* Every window of windows.bin through the network; its outputs go to outputs.bin, ticks of each to ticks.bin, after
 * those of a loop of 2,000,000 instructions. Research use only. Licence: Apache-2.0. */
#include "board.h"
#include "model.h"

static model_arena arena;
static model_outputs outputs;
static int16_t counts[MODEL_SAMPLES * MODEL_LEADS];

static uint64_t known_loop(void)
{
    uint32_t n = 1000000u;
    board_start_clock();
    __asm__ volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(n) : : "cc");
    return board_ticks();
}

int main(void)
{
    const int32_t windows = board_open("windows.bin", 1);
    const int32_t results = board_open("outputs.bin", 5);
    const int32_t times = board_open("ticks.bin", 5);
    uint64_t ticks = known_loop();
    if ((windows < 0) || (results < 0) || (times < 0)) {
        return 2;
    }
    board_write(times, &ticks, sizeof ticks);
    while (board_read(windows, counts, sizeof counts) == sizeof counts) {
        board_start_clock();
        model_run(counts, &arena, &outputs);
        ticks = board_ticks();
        board_write(results, &outputs, sizeof outputs);
        board_write(times, &ticks, sizeof ticks);
    }
    return 0;
}
