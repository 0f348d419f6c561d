/* MPS2 AN386: registers by Arm's application note DAI 0386 and the Cortex-M System Design Kit's manual (DDI 0479);
 * the core's own by the Armv7-M manual (DDI 0403). */
#include "board.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

/* CMSDK timer 0: counts down. */
#define TIMER_CTRL REGISTER(0x40000000u)
#define TIMER_VALUE REGISTER(0x40000004u)
#define TIMER_RELOAD REGISTER(0x40000008u)
#define TIMER_ENABLE 1u

/* CMSDK UART 0. */
#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u)
#define UART_CTRL REGISTER(0x40004008u)
#define UART_INTCLEAR REGISTER(0x4000400Cu)
#define UART_BAUDDIV REGISTER(0x40004010u)
#define UART_TX_FULL 1u
#define UART_RX_FULL 2u
#define UART_ENABLE_ALL 0xFu /* transmitter, receiver, and their interrupts */
#define UART_TX_INT 1u
#define UART_RX_INT 2u
#define UART_BAUD 921600u

#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)
#define SYST_ON 7u /* processor clock, interrupt, enabled */
#define NVIC_ISER REGISTER(0xE000E100u)
#define SCB_AIRCR REGISTER(0xE000ED0Cu)
#define AIRCR_RESET 0x05FA0004u

#define SEMIHOST_WRITE0 0x04u
#define SEMIHOST_EXIT_EXTENDED 0x20u
#define SEMIHOST_APPLICATION_EXIT 0x20026u

static uint32_t semihost(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void board_init(void)
{
    TIMER_RELOAD = 0xFFFFFFFFu;
    TIMER_VALUE = 0xFFFFFFFFu;
    TIMER_CTRL = TIMER_ENABLE;
    UART_BAUDDIV = BOARD_CLOCK_HZ / UART_BAUD;
    UART_CTRL = UART_ENABLE_ALL;
    NVIC_ISER = 3u;
}

void systick_start(uint32_t ticks)
{
    SYST_RVR = ticks - 1u;
    SYST_CVR = 0u;
    SYST_CSR = SYST_ON;
}

void systick_stop(void)
{
    SYST_CSR = 0u;
}

uint32_t counter_now(void)
{
    return 0xFFFFFFFFu - TIMER_VALUE;
}

bool uart_take(uint8_t *byte)
{
    UART_INTCLEAR = UART_RX_INT;
    if ((UART_STATE & UART_RX_FULL) == 0u) {
        return false;
    }
    *byte = (uint8_t)UART_DATA;
    return true;
}

bool uart_give(uint8_t byte)
{
    if ((UART_STATE & UART_TX_FULL) != 0u) {
        return false;
    }
    UART_DATA = byte;
    return true;
}

void uart_tx_seen(void)
{
    UART_INTCLEAR = UART_TX_INT;
}

uint32_t board_sleep(bool (*busy)(void))
{
    /* An interrupt ends the sleep also while it is kept away; its handler runs after, and is no sleep. */
    const uint32_t state = irq_off();
    const uint32_t began = counter_now();
    uint32_t slept;
    if (!busy()) {
        __asm__ volatile("wfi" ::: "memory");
    }
    slept = counter_now() - began;
    irq_restore(state);
    return slept;
}

uint32_t irq_off(void)
{
    uint32_t state;
    __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(state) : : "memory");
    return state;
}

void irq_restore(uint32_t state)
{
    __asm__ volatile("msr primask, %0" : : "r"(state) : "memory");
}

void board_reset(void)
{
    SCB_AIRCR = AIRCR_RESET;
    for (;;) {
    }
}

void board_write(const char *text)
{
    (void)semihost(SEMIHOST_WRITE0, text);
}

void board_exit(int code)
{
    const uint32_t block[2] = {SEMIHOST_APPLICATION_EXIT, (uint32_t)code};
    (void)semihost(SEMIHOST_EXIT_EXTENDED, block);
    for (;;) {
    }
}
