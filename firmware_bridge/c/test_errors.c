/* Bit errors on the wire. `test_errors` reads the lines of ../vectors/lines.py and damages each frame of a `canonical`
 * line: every single bit, every pair of bits where the frame is short, and a sample of pairs, of three and of four.
 * No frame that was changed may be handed over; one that is must be as it was (a damaged delimiter may leave an empty
 * COBS block). Prints the number of errors tried; exit code 1 when one went unseen. Licence: Apache-2.0. */
#include <stdio.h>
#include <string.h>

#include "eeb.h"

#define LINE_SIZE 4096
#define SHORT_WIRE 80u
#define SAMPLED 20000u

typedef struct {
    uint8_t wire[EEB_MAX_WIRE];
    size_t size;
    uint8_t decoded[EEB_MAX_FRAME];
    size_t decoded_size;
} sound_frame;

static unsigned long tried;
static unsigned long unseen;

static size_t from_hex(const char *hex, uint8_t *to, size_t room)
{
    size_t n = 0;
    unsigned value;
    while (n < room && sscanf(hex + 2 * n, "%2x", &value) == 1) {
        to[n++] = (uint8_t)value;
    }
    return n;
}

/* The decoder keeps what it decoded until the next frame begins to come in. */
static bool is_changed(const eeb_decoder *d, const sound_frame *sound)
{
    const size_t length = (size_t)d->buffer[4] | (size_t)d->buffer[5] << 8;
    return length + EEB_HEADER_SIZE + EEB_CRC_SIZE != sound->decoded_size ||
           memcmp(d->buffer, sound->decoded, sound->decoded_size) != 0;
}

static void try_error(const sound_frame *sound, const size_t *bits, size_t n_bits)
{
    static eeb_decoder d;
    static eeb_frame frame;
    uint8_t wire[EEB_MAX_WIRE + 1u];
    size_t i;
    memcpy(wire, sound->wire, sound->size);
    wire[sound->size] = 0u;
    for (i = 0; i < n_bits; i++) {
        wire[bits[i] / 8u] = (uint8_t)(wire[bits[i] / 8u] ^ (1u << bits[i] % 8u));
    }
    eeb_decoder_init(&d);
    tried++;
    for (i = 0; i <= sound->size; i++) {
        if (eeb_decoder_push(&d, wire[i], &frame) && is_changed(&d, sound)) {
            unseen++;
        }
    }
}

static void try_all(const sound_frame *sound)
{
    const size_t n = 8u * sound->size;
    size_t bits[2];
    for (bits[0] = 0; bits[0] < n; bits[0]++) {
        try_error(sound, bits, 1u);
        for (bits[1] = bits[0] + 1u; sound->size <= SHORT_WIRE && bits[1] < n; bits[1]++) {
            try_error(sound, bits, 2u);
        }
    }
}

/* Marsaglia's xorshift: the same sample at every run. */
static size_t pick(uint32_t *state, size_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state % below;
}

static bool is_new(const size_t *bits, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) {
        if (bits[i] == bits[n]) {
            return false;
        }
    }
    return true;
}

static void try_sample(const sound_frame *sound, size_t n_bits)
{
    uint32_t state = 2463534242u;
    size_t bits[4];
    unsigned k;
    for (k = 0; k < SAMPLED; k++) {
        size_t n = 0;
        while (n < n_bits) {
            bits[n] = pick(&state, 8u * sound->size);
            n += is_new(bits, n) ? 1u : 0u;
        }
        try_error(sound, bits, n_bits);
    }
}

static bool read_frame(const char *hex, sound_frame *sound)
{
    static eeb_decoder d;
    static eeb_frame frame;
    bool complete = false;
    size_t i;
    sound->size = from_hex(hex, sound->wire, sizeof sound->wire);
    eeb_decoder_init(&d);
    for (i = 0; i < sound->size; i++) {
        complete = eeb_decoder_push(&d, sound->wire[i], &frame);
    }
    sound->decoded_size = ((size_t)d.buffer[4] | (size_t)d.buffer[5] << 8) + EEB_HEADER_SIZE + EEB_CRC_SIZE;
    memcpy(sound->decoded, d.buffer, sound->decoded_size);
    return complete;
}

int main(void)
{
    static char line[LINE_SIZE];
    static char name[LINE_SIZE];
    static char hex[LINE_SIZE];
    static sound_frame sound;
    unsigned frames = 0;
    size_t n_bits;
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "canonical %4095s %4095s", name, hex) != 2) {
            continue;
        }
        if (!read_frame(hex, &sound)) {
            fprintf(stderr, "%s is no sound frame\n", name);
            return 1;
        }
        frames++;
        try_all(&sound);
        for (n_bits = 2; n_bits <= 4; n_bits++) {
            try_sample(&sound, n_bits);
        }
    }
    printf("%u frames, %lu errors of 1 to 4 bits, %lu unseen\n", frames, tried, unseen);
    return frames > 0 && unseen == 0 ? 0 : 1;
}
