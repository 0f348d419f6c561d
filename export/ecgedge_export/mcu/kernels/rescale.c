/* A sum as int8: times multiplier / 2**shift, plus the zero point, within low to 127. */
static int8_t rescaled(int32_t sum, int32_t multiplier, uint8_t shift, int32_t zero_point, int32_t low)
{
    /* Beyond this, all is clamped in any case. */
    const int64_t product = (int64_t)sum * multiplier;
    int32_t q = shift_half_even(product, shift) + zero_point;
    if (q < low) {
        q = low;
    }
    if (q > 127) {
        q = 127;
    }
    return (int8_t)q;
}
