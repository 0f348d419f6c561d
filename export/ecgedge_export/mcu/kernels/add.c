/* The sum of two tensors: each number less its zero point, times its multiplier, and shifted together. */
typedef struct {
    uint32_t size;
    int32_t left_multiplier;
    int32_t right_multiplier;
    int32_t left_zero;
    int32_t right_zero;
    int32_t zero_out;
    int32_t low;
    uint8_t shift;
} add_layer;

static void add(const add_layer *layer, const element *left, const element *right, element *y)
{
    const int32_t half = ((int32_t)1 << (layer->shift - 1u)) - 1;
    for (uint32_t i = 0; i < layer->size; i++) {
        const int32_t sum = (left[i] - layer->left_zero) * layer->left_multiplier +
                            (right[i] - layer->right_zero) * layer->right_multiplier;
        int32_t q = ((sum + half + ((sum >> layer->shift) & 1)) >> layer->shift) + layer->zero_out;
        if (q < layer->low) {
            q = layer->low;
        }
        if (q > ELEMENT_MAX) {
            q = ELEMENT_MAX;
        }
        y[i] = (element)q;
    }
}
