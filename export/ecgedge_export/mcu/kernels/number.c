/* An output that is one number: a sum times multiplier / 2**shift, plus an offset. */
static int32_t number(int32_t sum, int32_t multiplier, uint8_t shift, int32_t offset)
{
    return shift_half_even((int64_t)sum * multiplier, shift) + offset;
}
