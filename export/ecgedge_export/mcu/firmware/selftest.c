/* Run the network on its self-test's windows: 0 if every integer is right, else the number of the first window that is
 * not, from 1 on. On a PC, or on the device with main() called from its start-up code. Research use only. */
#include "model_vectors.h"

static model_arena arena;
static model_outputs outputs;

int main(void)
{
    for (unsigned i = 0; i < MODEL_VECTORS; i++) {
        model_run(&model_windows[i * MODEL_SAMPLES * MODEL_LEADS], &arena, &outputs);
        if (!model_same(&outputs, &model_expected[i])) {
            return (int)i + 1;
        }
    }
    return 0;
}
