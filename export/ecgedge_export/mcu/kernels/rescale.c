/* A sum as a tensor's number: times multiplier / 2**shift, rounded half to even, plus the zero point, within low to ELEMENT_MAX. The
 * multiplier has 31 bits: from a shift of 33 on the product's lower word only tells whether it was a half. */
static inline element rescaled(int32_t sum, int32_t multiplier, uint8_t shift, int32_t zero_point, int32_t low)
{
    const int64_t product = (int64_t)sum * multiplier;
    int32_t q;
    if (shift >= 33u) {
        const int32_t upper = (int32_t)(product >> 32) + ((int32_t)1 << (shift - 33u));
        q = upper >> (shift - 32u);
        if ((uint32_t)product == 0u) { /* rarely: a half, or a whole number */
            q -= (int32_t)((uint32_t)q & (((uint32_t)upper << (64u - shift)) == 0u ? 1u : 0u));
        }
    } else {
        q = shift_half_even(product, shift);
    }
    q += zero_point;
    if (q < low) {
        q = low;
    }
    if (q > ELEMENT_MAX) {
        q = ELEMENT_MAX;
    }
    return (element)q;
}

/* What belongs to one channel of a layer's output. */
typedef struct {
    int32_t bias;
    int32_t multiplier;
    uint8_t shift;
} channel_scale;
