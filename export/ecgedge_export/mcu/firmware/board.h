/* A Cortex-M4 without an operating system, under QEMU: files through semihosting, and SysTick as a clock.
 * Research use only. Licence: Apache-2.0. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Open a file of the host; `mode` 1 reads bytes, 5 writes them. Below 0 on failure. */
int32_t board_open(const char *name, uint32_t mode);
/* Bytes read, at most `size`. */
uint32_t board_read(int32_t file, void *to, uint32_t size);
void board_write(int32_t file, const void *from, uint32_t size);
/* End with an exit status. */
void board_exit(uint32_t status);

/* Start the clock at 0, and its ticks since then. */
void board_start_clock(void);
uint64_t board_ticks(void);

#endif
