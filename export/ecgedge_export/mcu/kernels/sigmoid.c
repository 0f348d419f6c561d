/* The sigmoid of x / 4096 in 65,535ths: straight lines between the table's entries, which are 1/32 apart. */
static uint16_t sigmoid(int32_t x)
{
    const uint32_t end = (uint32_t)(sizeof sigmoid_table / sizeof sigmoid_table[0]) - 1u;
    uint32_t size = (x < 0) ? (0u - (uint32_t)x) : (uint32_t)x;
    uint32_t index;
    uint32_t y;
    if (size > (end << 7)) {
        size = end << 7;
    }
    index = size >> 7;
    if (index > (end - 1u)) {
        index = end - 1u;
    }
    y = (uint32_t)(sigmoid_table[index + 1u] - sigmoid_table[index]) * (size - (index << 7));
    y = sigmoid_table[index] + ((y + 64u) >> 7);
    return (uint16_t)((x < 0) ? (65535u - y) : y);
}
