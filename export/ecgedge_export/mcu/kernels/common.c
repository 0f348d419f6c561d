/* Right shifts of negative numbers must keep the sign: C99 leaves it to the compiler. */
typedef char shift_keeps_sign[((-1 >> 1) == -1) ? 1 : -1];

/* x / 2**shift, rounded half to even; shift is 1 to 62. */
static int32_t shift_half_even(int64_t x, uint8_t shift)
{
    const int64_t half = ((int64_t)1 << (shift - 1u)) - 1;
    return (int32_t)((x + half + ((x >> shift) & 1)) >> shift);
}
