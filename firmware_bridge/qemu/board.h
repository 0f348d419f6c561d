/* The little that this image needs of its board: one UART, one free-running counter, SysTick, reset, exit.
 *
 * Research use only. Licence: Apache-2.0.
 */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stdint.h>

#define BOARD_CLOCK_HZ 25000000u

/* Exit codes of the emulator. */
#define EXIT_DONE 0
#define EXIT_NO_SCENARIO 2
#define EXIT_FAULT 3
#define EXIT_INTERNAL 4

/* Called by the board; whoever uses it defines them. */
void systick_handler(void);
void uart_rx_handler(void);
void uart_tx_handler(void);

/* Start the counter and the UART with its receive and transmit interrupts. */
void board_init(void);

/* Call systick_handler() every `ticks` of BOARD_CLOCK_HZ (below 2**24). */
void systick_start(uint32_t ticks);

void systick_stop(void);

/* Ticks of BOARD_CLOCK_HZ since board_init(), modulo 2**32: 171 s. */
uint32_t counter_now(void);

/* Whether a byte has come, and that byte; to be called from uart_rx_handler(). */
bool uart_take(uint8_t *byte);

/* Hand a byte to the UART unless it is full. */
bool uart_give(uint8_t byte);

/* Say that the transmit interrupt has been seen. */
void uart_tx_seen(void);

/* Sleep until an interrupt, unless `busy`, asked with interrupts kept away, says that there is something to do
 * already; returns for how many ticks of BOARD_CLOCK_HZ. */
uint32_t board_sleep(bool (*busy)(void));

/* Keep interrupts away; returns what irq_restore() takes. */
uint32_t irq_off(void);
void irq_restore(uint32_t state);

/* Reset the whole chip. Does not return. */
void board_reset(void) __attribute__((noreturn));

/* Write text to the emulator's console (semihosting). */
void board_write(const char *text);

/* End the emulator with an exit code (semihosting). Does not return. */
void board_exit(int code) __attribute__((noreturn));

#endif
