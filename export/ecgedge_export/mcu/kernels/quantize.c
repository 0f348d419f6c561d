/* Front-end counts to a tensor's numbers. */
static void quantize(const int16_t *counts, element *y, uint32_t size, int32_t multiplier, uint8_t shift,
                     int32_t zero_point)
{
    for (uint32_t i = 0; i < size; i++) {
        y[i] = rescaled(counts[i], multiplier, shift, zero_point, ELEMENT_MIN);
    }
}
