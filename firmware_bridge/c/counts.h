/* What an image that counts instructions needs on QEMU's mps2-an386 (Cortex-M4): vectors, SysTick, semihosting. See
 * counts.py. Included by the one source of an image, which has `reset`. Licence: Apache-2.0. */
#ifndef COUNTS_H
#define COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAMES 64u
#define SYST_CSR (*(volatile uint32_t *)0xE000E010u)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014u)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018u)
#define SYST_LARGEST 0x00FFFFFFu
#define SYS_WRITE0 4u
#define SYS_EXIT 0x18u
#define EXIT_OK 0x20026u
#define EXIT_FAILED 0x20023u

extern uint32_t stack_top;
void reset(void);

__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void))&stack_top, reset};

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

static void print_row(const char *name, uint32_t ticks, uint32_t frames)
{
    (void)semihost(SYS_WRITE0, name);
    print_number(ticks);
    (void)semihost(SYS_WRITE0, " ");
    print_number(frames);
    (void)semihost(SYS_WRITE0, "\n");
}

static uint32_t ticks_since(uint32_t before)
{
    return (before - SYST_CVR) & SYST_LARGEST;
}

static void measure(const char *name, void (*once)(void))
{
    const uint32_t before = SYST_CVR;
    uint32_t i;
    for (i = 0u; i < FRAMES; i++) {
        once();
    }
    print_row(name, ticks_since(before), FRAMES);
}

static void start_counting(void)
{
    SYST_RVR = SYST_LARGEST;
    SYST_CVR = 0u;
    SYST_CSR = 5u;
}

static void leave(bool ok)
{
    (void)semihost(SYS_EXIT, (const void *)(ok ? EXIT_OK : EXIT_FAILED));
    for (;;) {
    }
}

#endif
