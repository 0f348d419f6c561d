/* Vector table and reset handler of a Cortex-M4; no vendor's code. */
#include <stddef.h>
#include <stdint.h>

#include "board.h"

extern uint32_t __data_load, __data_start, __data_end, __bss_start, __bss_end, __stack_top;

int main(void);
void reset_handler(void);
void fault_handler(void);

/* Any exception that is not expected ends the run at once, so that a test sees it. */
void fault_handler(void)
{
    board_exit(EXIT_FAULT);
}

void reset_handler(void)
{
    const uint32_t *from = &__data_load;
    uint32_t *to;
    for (to = &__data_start; to != &__data_end; to++) {
        *to = *from;
        from++;
    }
    for (to = &__bss_start; to != &__bss_end; to++) {
        *to = 0u;
    }
    board_exit(main());
}

typedef void (*handler)(void);

#define SYSTEM_VECTORS 16u
#define UART_RX_IRQ 0u
#define UART_TX_IRQ 1u

__attribute__((section(".vectors"), used)) static const struct {
    const uint32_t *stack_top;
    handler entry[SYSTEM_VECTORS - 1u];
    handler irq[2];
} vectors = {
    .stack_top = &__stack_top,
    .entry = {
        reset_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, NULL, NULL, NULL,
        NULL, fault_handler, fault_handler, NULL, fault_handler, systick_handler,
    },
    .irq = {[UART_RX_IRQ] = uart_rx_handler, [UART_TX_IRQ] = uart_tx_handler},
};
