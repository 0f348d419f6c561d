/* The network on the device itself, and its estimate as an EEB frame (firmware_bridge/c). Research use only.
 *
 * What a RESULT of the device's own stands for is for the firmware's author to say: PROTOCOL.md has the host send it. */
#include "eeb.h"
#include "model.h"

size_t report(const int16_t *counts, uint32_t last_sample, uint32_t model_id, model_arena *arena,
              model_outputs *outputs, uint8_t *out, size_t capacity);

/* A pressure in 0.01 mmHg as the frame has it. */
static int16_t within_int16(int32_t value)
{
    if (value > INT16_MAX) {
        return INT16_MAX;
    }
    return (value <= INT16_MIN) ? (int16_t)(INT16_MIN + 1) : (int16_t)value;
}

/* Run the network on a window and write the RESULT frame; returns its bytes, or 0 if `capacity` is too small. The
 * interval and the signal's quality are not known here, so the estimate is marked questionable. */
size_t report(const int16_t *counts, uint32_t last_sample, uint32_t model_id, model_arena *arena,
              model_outputs *outputs, uint8_t *out, size_t capacity)
{
    eeb_result result = {0};
    model_run(counts, arena, outputs);
    result.simulated = true; /* until the firmware knows better: its samples decide */
    result.sample_index = last_sample;
    result.mpcwp_cmmhg = EEB_NO_VALUE;
    result.low_cmmhg = EEB_NO_VALUE;
    result.high_cmmhg = EEB_NO_VALUE;
    result.validity = EEB_VALIDITY_QST;
    result.model_id = model_id;
    /* outputs */
    return eeb_encode_result(&result, out, capacity);
}

#ifdef EXAMPLE_MAIN
#include <stdio.h>

#include "model_vectors.h"

static model_arena arena;
static model_outputs outputs;

/* Writes the frames of the self-test's windows to standard output. */
int main(void)
{
    uint8_t frame[EEB_WIRE_SIZE(EEB_RESULT_SIZE)];
    for (uint32_t i = 0; i < MODEL_VECTORS; i++) {
        const int16_t *const counts = &model_windows[i * MODEL_SAMPLES * MODEL_LEADS];
        const size_t size = report(counts, (i + 1u) * MODEL_SAMPLES - 1u, 0u, &arena, &outputs, frame, sizeof frame);
        if ((size == 0u) || (fwrite(frame, 1, size, stdout) != size)) {
            return 1;
        }
    }
    return 0;
}
#endif
