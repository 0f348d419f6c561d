/* A convolution over time, or a dense layer: one whose kernel is as long as its input.
 *
 * A block of outputs is computed at a time. What it reads is widened to 16 bits, less the zero point and with zeros
 * where padding is, into the strip; there all that one output reads is `runs` pieces of `run` numbers. Then two
 * positions times two channels are summed side by side, so that every number that is loaded is used twice.
 *
 * Weights: for each group, for each two channels out (the second is zeros if there is none), for each run: fours of
 * the first channel and of the second in turn, each four in the order 0, 2, 1, 3 (what SXTB16 takes apart). Beyond the
 * run's end they are zero. */
typedef struct {
    const int8_t *weight;
    const int32_t *bias;
    const int32_t *multiplier; /* per channel out; none if sums are wanted */
    const uint8_t *shift;
    uint32_t samples_in;
    uint32_t samples_out;
    uint32_t channels_in;
    uint32_t channels_out;
    uint32_t groups;
    uint32_t stride;
    uint32_t pad;
    uint32_t reach;   /* samples that one output sees, (kernel - 1) * dilation + 1 */
    uint32_t block;   /* outputs in a strip */
    uint32_t runs;
    uint32_t fours;   /* of a run, rounded up */
    uint32_t between; /* numbers from the start of a run to that of the next */
    int16_t zero_in;
    int16_t zero_out;
    int16_t low;
} convolution_layer;

/* Sums of two positions times two channels: a0 and a1 of the first channel. */
typedef struct {
    int32_t a0;
    int32_t a1;
    int32_t b0;
    int32_t b1;
} four_sums;

#if defined(__ARM_FEATURE_SIMD32) && !defined(__ARM_BIG_ENDIAN) && defined(__GNUC__) && !defined(ECG_PLAIN_C)
#include <arm_acle.h>

static inline int16x2_t load_16x2(const int16_t *x)
{
    int16x2_t pair;
    (void)memcpy(&pair, x, sizeof pair);
    return pair;
}

static inline int16x2_t odd_bytes(int8x4_t w)
{
    int16x2_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(w));
    return pair;
}

static inline four_sums multiply(const int8_t *w, const int16_t *x0, const int16_t *x1, uint32_t fours, four_sums s)
{
    const int8_t *const end = w + 8u * fours;
    while (w != end) {
        int8x4_t wa;
        int8x4_t wb;
        const int16x2_t x00 = load_16x2(x0);
        const int16x2_t x01 = load_16x2(x0 + 2);
        const int16x2_t x10 = load_16x2(x1);
        const int16x2_t x11 = load_16x2(x1 + 2);
        (void)memcpy(&wa, w, sizeof wa);
        (void)memcpy(&wb, w + 4, sizeof wb);
        s.a0 = __smlad(__sxtb16(wa), x00, s.a0);
        s.a1 = __smlad(__sxtb16(wa), x10, s.a1);
        s.a0 = __smlad(odd_bytes(wa), x01, s.a0);
        s.a1 = __smlad(odd_bytes(wa), x11, s.a1);
        s.b0 = __smlad(__sxtb16(wb), x00, s.b0);
        s.b1 = __smlad(__sxtb16(wb), x10, s.b1);
        s.b0 = __smlad(odd_bytes(wb), x01, s.b0);
        s.b1 = __smlad(odd_bytes(wb), x11, s.b1);
        w += 8;
        x0 += 4;
        x1 += 4;
    }
    return s;
}
#else
static inline int32_t four_products(const int8_t *w, const int16_t *x)
{
    return (int32_t)w[0] * x[0] + (int32_t)w[2] * x[1] + (int32_t)w[1] * x[2] + (int32_t)w[3] * x[3];
}

static inline four_sums multiply(const int8_t *w, const int16_t *x0, const int16_t *x1, uint32_t fours, four_sums s)
{
    for (uint32_t i = 0; i < fours; i++) {
        s.a0 += four_products(w, x0);
        s.a1 += four_products(w, x1);
        s.b0 += four_products(w + 4, x0);
        s.b1 += four_products(w + 4, x1);
        w += 8;
        x0 += 4;
        x1 += 4;
    }
    return s;
}
#endif

/* Widen `samples` samples from `first` on (which may lie before the start) into the strip. */
static void fill_strip(const convolution_layer *layer, const int8_t *x, int32_t first, uint32_t samples,
                       int16_t *strip)
{
    const int32_t zero = layer->zero_in;
    for (uint32_t i = 0; i < samples; i++) {
        const int32_t at = first + (int32_t)i;
        int16_t *const to = strip + i * layer->channels_in;
        if ((at < 0) || (at >= (int32_t)layer->samples_in)) {
            (void)memset(to, 0, layer->channels_in * sizeof *to);
        } else {
            const int8_t *const from = x + (uint32_t)at * layer->channels_in;
            for (uint32_t c = 0; c < layer->channels_in; c++) {
                to[c] = (int16_t)(from[c] - zero);
            }
        }
    }
}

/* Write one channel's result of one position. */
static inline void store(const convolution_layer *layer, int32_t sum, uint32_t position, uint32_t channel, int8_t *y,
                         int32_t *sums)
{
    if (layer->multiplier == NULL) {
        sums[channel] = sum;
    } else {
        y[position * layer->channels_out + channel] =
            rescaled(sum, layer->multiplier[channel], layer->shift[channel], layer->zero_out, layer->low);
    }
}

/* Two positions (or one twice) of a strip, all channels. */
static void two_positions(const convolution_layer *layer, const int16_t *x0, const int16_t *x1, uint32_t position,
                          bool second, int8_t *y, int32_t *sums)
{
    const uint32_t in_group = layer->channels_in / layer->groups;
    const uint32_t out_group = layer->channels_out / layer->groups;
    const int8_t *w = layer->weight;
    for (uint32_t group = 0; group < layer->groups; group++) {
        for (uint32_t row = 0; row < out_group; row += 2) {
            const uint32_t channel = group * out_group + row;
            const bool both = (row + 1u) < out_group;
            uint32_t at = group * in_group;
            four_sums s = {layer->bias[channel], layer->bias[channel], 0, 0};
            if (both) {
                s.b0 = layer->bias[channel + 1u];
                s.b1 = s.b0;
            }
            for (uint32_t run = 0; run < layer->runs; run++) {
                s = multiply(w, x0 + at, x1 + at, layer->fours, s);
                w += 8u * layer->fours;
                at += layer->between;
            }
            store(layer, s.a0, position, channel, y, sums);
            if (both) {
                store(layer, s.b0, position, channel + 1u, y, sums);
            }
            if (second) {
                store(layer, s.a1, position + 1u, channel, y, sums);
            }
            if (second && both) {
                store(layer, s.b1, position + 1u, channel + 1u, y, sums);
            }
        }
    }
}

static void convolution(const convolution_layer *layer, const int8_t *x, int8_t *y, int32_t *sums, int16_t *strip)
{
    const uint32_t step = layer->stride * layer->channels_in;
    for (uint32_t start = 0; start < layer->samples_out; start += layer->block) {
        const uint32_t left = layer->samples_out - start;
        const uint32_t positions = (left < layer->block) ? left : layer->block;
        const int32_t first = (int32_t)(start * layer->stride) - (int32_t)layer->pad;
        fill_strip(layer, x, first, (positions - 1u) * layer->stride + layer->reach, strip);
        for (uint32_t p = 0; p < positions; p += 2) {
            const bool second = (p + 1u) < positions;
            const int16_t *const x0 = strip + p * step;
            two_positions(layer, x0, second ? (x0 + step) : x0, start + p, second, y, sums);
        }
    }
}
