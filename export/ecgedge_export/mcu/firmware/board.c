/* Start-up, semihosting and clock; see board.h. Research use only. Licence: Apache-2.0. */
#include "board.h"

#include <string.h>

#define SYST_CSR (*(volatile uint32_t *)0xE000E010u)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014u)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018u)
#define ICSR (*(volatile uint32_t *)0xE000ED04u)
#define ICSR_PENDSTSET (1u << 26)
#define SYST_PERIOD 0x1000000u /* it has 24 bits */

extern uint32_t stack_top[];
extern uint8_t data_load[];
extern uint8_t data_start[];
extern uint8_t data_size[];
extern uint8_t bss_start[];
extern uint8_t bss_size[];

int main(void);
void reset(void);
void fault(void);
void systick(void);

static volatile uint32_t wraps;

static int32_t semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

int32_t board_open(const char *name, uint32_t mode)
{
    const uint32_t block[3] = {(uint32_t)name, mode, (uint32_t)strlen(name)};
    return semihosting(0x01u, block);
}

uint32_t board_read(int32_t file, void *to, uint32_t size)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)to, size};
    return size - (uint32_t)semihosting(0x06u, block);
}

void board_write(int32_t file, const void *from, uint32_t size)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)from, size};
    (void)semihosting(0x05u, block);
}

void board_exit(uint32_t status)
{
    const uint32_t block[2] = {0x20026u, status}; /* ADP_Stopped_ApplicationExit */
    (void)semihosting(0x20u, block);
    for (;;) {
    }
}

void board_start_clock(void)
{
    SYST_CSR = 0;
    SYST_RVR = SYST_PERIOD - 1u;
    SYST_CVR = 0;
    wraps = 0;
    SYST_CSR = 7; /* on, with its interrupt, at the processor's clock */
}

uint64_t board_ticks(void)
{
    uint32_t before;
    uint32_t count;
    do { /* again if it wrapped in between */
        before = wraps;
        count = SYST_CVR;
    } while ((before != wraps) || ((ICSR & ICSR_PENDSTSET) != 0u));
    return (uint64_t)before * SYST_PERIOD + (SYST_PERIOD - 1u - count);
}

void systick(void)
{
    wraps++;
}

void fault(void)
{
    board_exit(99);
}

void reset(void)
{
    (void)memcpy(data_start, data_load, (uint32_t)data_size);
    (void)memset(bss_start, 0, (uint32_t)bss_size);
    board_exit((uint32_t)main());
}

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {
    stack_top,
    {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, systick},
};
