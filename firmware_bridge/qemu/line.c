#include "line.h"

#include "board.h"

/* Powers of two. The receive ring holds what comes while one frame is encoded; the other one about 300 ms of frames. */
#define RX_SIZE 1024u
#define TX_SIZE 4096u

/* One side puts, the other takes; each writes only its own index, so neither needs to keep interrupts away. */
typedef struct {
    volatile uint32_t put;
    volatile uint32_t taken;
} ring;

static uint8_t rx_bytes[RX_SIZE];
static uint8_t tx_bytes[TX_SIZE];
static ring rx;
static ring tx;
static line_faults sent_faults;
static line_faults received_faults;
static uint32_t sent_random;
static uint32_t received_random;
static line_tallies *tally;

/* xorshift32 (Marsaglia, J. Stat. Software 8(14), 2003): the same faults for the same seed. */
static uint32_t draw(uint32_t *state)
{
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    *state = x;
    return x;
}

static bool happens(uint32_t *random, uint32_t ppm)
{
    return ppm != 0u && draw(random) % 1000000u < ppm;
}

/* False if the byte is lost. */
static bool pass(const line_faults *faults, uint32_t *random, line_tally *count, uint8_t *byte)
{
    if (happens(random, faults->drop_ppm)) {
        count->dropped++;
        return false;
    }
    if (happens(random, faults->flip_ppm)) {
        *byte ^= (uint8_t)(1u << (draw(random) & 7u));
        count->flipped++;
    }
    return true;
}

void line_init(const scenario *plan, uint32_t boot, line_tallies *tallies)
{
    sent_faults = plan->sent;
    received_faults = plan->received;
    /* Never 0, from which xorshift does not get away; another sequence for each direction and each start. */
    sent_random = (plan->seed * 2654435761u + boot) | 1u;
    received_random = (plan->seed * 2246822519u + boot) | 1u;
    tally = tallies;
}

void uart_rx_handler(void)
{
    uint8_t byte;
    while (uart_take(&byte)) {
        if (!pass(&received_faults, &received_random, &tally->received, &byte)) {
            continue;
        }
        if (rx.put - rx.taken == RX_SIZE) {
            tally->received.overrun++;
        } else {
            rx_bytes[rx.put % RX_SIZE] = byte;
            rx.put++;
        }
    }
}

static void give(void)
{
    while (tx.taken != tx.put && uart_give(tx_bytes[tx.taken % TX_SIZE])) {
        tx.taken++;
    }
}

void uart_tx_handler(void)
{
    uart_tx_seen();
    give();
}

size_t line_room(void)
{
    return TX_SIZE - (tx.put - tx.taken);
}

bool line_send(const uint8_t *bytes, size_t size)
{
    uint32_t state;
    size_t i;
    if (line_room() < size) {
        return false;
    }
    for (i = 0u; i < size; i++) {
        uint8_t byte = bytes[i];
        if (pass(&sent_faults, &sent_random, &tally->sent, &byte)) {
            tx_bytes[tx.put % TX_SIZE] = byte;
            tx.put++;
        }
    }
    /* An idle transmitter has no interrupt to come: the first byte is ours to hand over. */
    state = irq_off();
    give();
    irq_restore(state);
    return true;
}

bool line_idle(void)
{
    return tx.taken == tx.put;
}

bool line_waiting(void)
{
    return rx.taken != rx.put;
}

bool line_receive(uint8_t *byte)
{
    if (!line_waiting()) {
        return false;
    }
    *byte = rx_bytes[rx.taken % RX_SIZE];
    rx.taken++;
    return true;
}
