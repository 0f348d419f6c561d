/* The mean of `kernel` samples; its division is part of the multiplier. */
typedef struct {
    uint32_t samples_out;
    uint32_t channels;
    uint32_t kernel;
    uint32_t stride;
    int32_t multiplier;
    int32_t zero_in;
    int32_t zero_out;
    int32_t low;
    uint8_t shift;
} mean_pool_layer;

static void mean_pool(const mean_pool_layer *layer, const element *x, element *y)
{
    for (uint32_t t = 0; t < layer->samples_out; t++) {
        const element *const from = x + t * layer->stride * layer->channels;
        for (uint32_t c = 0; c < layer->channels; c++) {
            int32_t sum = 0;
            for (uint32_t tap = 0; tap < layer->kernel; tap++) {
                sum += from[tap * layer->channels + c] - layer->zero_in;
            }
            y[t * layer->channels + c] =
                rescaled(sum, layer->multiplier, layer->shift, layer->zero_out, layer->low);
        }
    }
}
