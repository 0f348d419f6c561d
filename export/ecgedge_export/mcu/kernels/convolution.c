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
    const channel_scale *channels;
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
/* Sixteen products, in 18 instructions and 12 registers: more than 14 there are not. */
#define SIXTEEN_PRODUCTS                                       \
    __asm__("ldr %[wa], [%[w]], #4\n\t"                        \
            "ldr %[wb], [%[w]], #4\n\t"                        \
            "ldr %[xa], [%[x0]], #4\n\t"                       \
            "ldr %[xb], [%[x1]], #4\n\t"                       \
            "sxtb16 %[t], %[wa]\n\t"                           \
            "smlad %[a0], %[t], %[xa], %[a0]\n\t"              \
            "smlad %[a1], %[t], %[xb], %[a1]\n\t"              \
            "sxtb16 %[t], %[wb]\n\t"                           \
            "smlad %[b0], %[t], %[xa], %[b0]\n\t"              \
            "smlad %[b1], %[t], %[xb], %[b1]\n\t"              \
            "ldr %[xa], [%[x0]], #4\n\t"                       \
            "ldr %[xb], [%[x1]], #4\n\t"                       \
            "sxtb16 %[t], %[wa], ror #8\n\t"                   \
            "smlad %[a0], %[t], %[xa], %[a0]\n\t"              \
            "smlad %[a1], %[t], %[xb], %[a1]\n\t"              \
            "sxtb16 %[t], %[wb], ror #8\n\t"                   \
            "smlad %[b0], %[t], %[xa], %[b0]\n\t"              \
            "smlad %[b1], %[t], %[xb], %[b1]\n\t"              \
            : [w] "+&r"(w), [x0] "+&r"(x0), [x1] "+&r"(x1), [a0] "+&r"(s.a0), [a1] "+&r"(s.a1), [b0] "+&r"(s.b0), \
              [b1] "+&r"(s.b1), [wa] "=&r"(wa), [wb] "=&r"(wb), [xa] "=&r"(xa), [xb] "=&r"(xb), [t] "=&r"(t) \
            : \
            : "memory")

static inline four_sums multiply(const int8_t *w, const int16_t *x0, const int16_t *x1, uint32_t fours, four_sums s)
{
    const int8_t *const end = w + 8u * (fours & ~1u);
    uint32_t wa;
    uint32_t wb;
    uint32_t xa;
    uint32_t xb;
    uint32_t t;
    while (w != end) {
        SIXTEEN_PRODUCTS;
        SIXTEEN_PRODUCTS;
    }
    if ((fours & 1u) != 0u) {
        SIXTEEN_PRODUCTS;
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

/* Put `samples` samples from `first` on (which may lie before the start) into the strip: of 16 bits without a zero point
 * (a tensor, or the front end's counts) as they are, else those of 8 bits, widened. */
static void fill_strip(const convolution_layer *layer, const int16_t *wide, const int8_t *narrow, int32_t first,
                       uint32_t samples, int16_t *strip)
{
    const uint32_t channels = layer->channels_in;
    const int32_t zero = layer->zero_in;
    const uint32_t before = (first < 0) ? (uint32_t)(-first) : 0u;
    const uint32_t from = (first < 0) ? 0u : (uint32_t)first;
    const uint32_t there = (from < layer->samples_in) ? (layer->samples_in - from) : 0u;
    const uint32_t wanted = (before < samples) ? (samples - before) : 0u;
    const uint32_t taken = channels * ((wanted < there) ? wanted : there);
    int16_t *const middle = strip + channels * before;
    (void)memset(strip, 0, channels * before * sizeof *strip);
    if (wide != NULL) {
        (void)memcpy(middle, wide + channels * from, taken * sizeof *middle);
    } else {
        const int8_t *const source = narrow + channels * from;
        for (uint32_t i = 0; i < taken; i++) {
            middle[i] = (int16_t)(source[i] - zero);
        }
    }
    (void)memset(middle + taken, 0, (channels * wanted - taken) * sizeof *middle);
}

/* Write one channel's result at a position, and at the next if there is one. */
static inline void store(const convolution_layer *layer, const channel_scale *channel, int32_t sum, int32_t next,
                         bool second, element *y)
{
    const int32_t zero = layer->zero_out;
    const int32_t low = layer->low;
    y[0] = rescaled(sum, channel->multiplier, channel->shift, zero, low);
    if (second) {
        y[layer->channels_out] = rescaled(next, channel->multiplier, channel->shift, zero, low);
    }
}

/* All channels of two positions (or of one twice) of a strip: into y, or as they are into sums if there are any. */
static void two_positions(const convolution_layer *layer, const int16_t *x0, const int16_t *x1, bool second, element *y,
                          int32_t *sums)
{
    const uint32_t in_group = layer->channels_in / layer->groups;
    const uint32_t out_group = layer->channels_out / layer->groups;
    const int8_t *w = layer->weight;
    const channel_scale *channel = layer->channels;
    for (uint32_t group = 0; group < layer->groups; group++) {
        for (uint32_t row = 0; row < out_group; row += 2) {
            const bool both = (row + 1u) < out_group;
            uint32_t at = group * in_group;
            four_sums s = {channel[0].bias, channel[0].bias, 0, 0};
            for (uint32_t run = 0; run < layer->runs; run++) {
                s = multiply(w, x0 + at, x1 + at, layer->fours, s);
                w += 8u * layer->fours;
                at += layer->between;
            }
            if (sums != NULL) {
                sums[0] = s.a0;
            } else {
                store(layer, &channel[0], s.a0, s.a1, second, y);
            }
            if (both && (sums != NULL)) {
                sums[1] = s.b0 + channel[1].bias;
            } else if (both) {
                store(layer, &channel[1], s.b0 + channel[1].bias, s.b1 + channel[1].bias, second, y + 1);
            }
            channel += both ? 2 : 1;
            if (sums != NULL) {
                sums += both ? 2 : 1;
            } else {
                y += both ? 2 : 1;
            }
        }
    }
}

static void convolution(const convolution_layer *layer, const int16_t *wide, const int8_t *narrow, element *y,
                        int32_t *sums, int16_t *strip)
{
    const uint32_t step = layer->stride * layer->channels_in;
    for (uint32_t start = 0; start < layer->samples_out; start += layer->block) {
        const uint32_t left = layer->samples_out - start;
        const uint32_t positions = (left < layer->block) ? left : layer->block;
        const int32_t first = (int32_t)(start * layer->stride) - (int32_t)layer->pad;
        fill_strip(layer, wide, narrow, first, (positions - 1u) * layer->stride + layer->reach, strip);
        for (uint32_t p = 0; p < positions; p += 2) {
            const bool second = (p + 1u) < positions;
            const int16_t *const x0 = strip + p * step;
            const int16_t *const x1 = second ? (x0 + step) : x0;
            two_positions(layer, x0, x1, second, (sums != NULL) ? y : (y + (start + p) * layer->channels_out), sums);
        }
    }
}
