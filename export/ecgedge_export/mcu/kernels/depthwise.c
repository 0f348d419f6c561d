/* A convolution whose groups are one channel in: weights (tap, channel out). */
typedef struct {
    const int8_t *weight;
    const channel_scale *channels;
    uint32_t samples_in;
    uint32_t samples_out;
    uint32_t channels_in;
    uint32_t channels_out;
    uint32_t kernel;
    uint32_t stride;
    uint32_t dilation;
    uint32_t pad;
    int16_t zero_in;
    int16_t zero_out;
    int16_t low;
} depthwise_layer;

static void depthwise(const depthwise_layer *layer, const element *x, element *y)
{
    const uint32_t per_group = layer->channels_out / layer->channels_in;
    for (uint32_t t = 0; t < layer->samples_out; t++) {
        const int32_t first = (int32_t)(t * layer->stride) - (int32_t)layer->pad;
        for (uint32_t channel = 0; channel < layer->channels_out; channel++) {
            const uint32_t from = channel / per_group;
            const channel_scale *const scale = &layer->channels[channel];
            int32_t sum = scale->bias;
            for (uint32_t tap = 0; tap < layer->kernel; tap++) {
                const int32_t at = first + (int32_t)(tap * layer->dilation);
                if ((at >= 0) && (at < (int32_t)layer->samples_in)) {
                    const int32_t difference = x[(uint32_t)at * layer->channels_in + from] - layer->zero_in;
                    sum += difference * layer->weight[tap * layer->channels_out + channel];
                }
            }
            y[t * layer->channels_out + channel] =
                rescaled(sum, scale->multiplier, scale->shift, layer->zero_out, layer->low);
        }
    }
}
