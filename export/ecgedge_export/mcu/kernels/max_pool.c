/* The largest of `kernel` samples; what lies before the start or behind the end does not count. */
static void max_pool(const element *x, element *y, uint32_t samples_in, uint32_t samples_out, uint32_t channels,
                     uint32_t kernel, uint32_t stride, uint32_t pad)
{
    for (uint32_t t = 0; t < samples_out; t++) {
        const uint32_t end = t * stride + kernel; /* counted from `pad` samples before the start */
        const uint32_t first = ((t * stride) > pad) ? (t * stride - pad) : 0u;
        const uint32_t last = ((end - pad) < samples_in) ? (end - pad) : samples_in;
        for (uint32_t c = 0; c < channels; c++) {
            element largest = ELEMENT_MIN;
            for (uint32_t at = first; at < last; at++) {
                const element value = x[at * channels + c];
                if (value > largest) {
                    largest = value;
                }
            }
            y[t * channels + c] = largest;
        }
    }
}
