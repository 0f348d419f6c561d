/* A tensor copied into some channels of another, within low to ELEMENT_MAX. A multiplier of 0 keeps the numbers. */
typedef struct {
    uint32_t samples;
    uint32_t channels;
    uint32_t channels_out;
    int32_t multiplier;
    int32_t zero_in;
    int32_t zero_out;
    int32_t low;
    uint8_t shift;
} move_layer;

static void move(const move_layer *layer, const element *x, element *y)
{
    for (uint32_t t = 0; t < layer->samples; t++) {
        for (uint32_t c = 0; c < layer->channels; c++) {
            const int32_t q = x[t * layer->channels + c];
            element *const to = y + t * layer->channels_out + c;
            if (layer->multiplier == 0) {
                *to = (element)((q < layer->low) ? layer->low : q);
            } else {
                *to = rescaled(q - layer->zero_in, layer->multiplier, layer->shift, layer->zero_out, layer->low);
            }
        }
    }
}
