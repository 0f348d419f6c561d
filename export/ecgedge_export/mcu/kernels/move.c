/* A tensor copied into some channels of another, within low to 127. A multiplier of 0 keeps the numbers. */
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

static void move(const move_layer *layer, const int8_t *x, int8_t *y)
{
    for (uint32_t t = 0; t < layer->samples; t++) {
        for (uint32_t c = 0; c < layer->channels; c++) {
            const int32_t q = x[t * layer->channels + c];
            int8_t *const to = y + t * layer->channels_out + c;
            if (layer->multiplier == 0) {
                *to = (int8_t)((q < layer->low) ? layer->low : q);
            } else {
                *to = rescaled(q - layer->zero_in, layer->multiplier, layer->shift, layer->zero_out, layer->low);
            }
        }
    }
}
