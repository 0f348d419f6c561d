/* EEB v1: frames between an ECG front end and a host, for firmware. See ../PROTOCOL.md.
 *
 * ISO C99, freestanding (three standard headers, no library call), no allocation, no mutable globals, no recursion.
 * The caller owns all memory; two objects never share state, so each may live in its own task. No function may
 * be called on the same object from two contexts at once.
 *
 * Research use only. Licence: Apache-2.0.
 */
#ifndef EEB_H
#define EEB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EEB_VERSION_MAJOR 1u

#define EEB_HEADER_SIZE 8u
#define EEB_CRC_SIZE 4u
/* Largest decoded frame: up to 655 bytes CRC-32C finds every error of five bits or fewer. */
#define EEB_MAX_FRAME 640u
#define EEB_MAX_PAYLOAD (EEB_MAX_FRAME - EEB_HEADER_SIZE - EEB_CRC_SIZE)
#define EEB_DATA_HEAD_SIZE 20u
#define EEB_RESULT_SIZE 20u
#define EEB_MAX_CHANNELS 16u

/* Room for a frame with `payload` bytes on the wire, whatever they are: COBS adds one byte and one more per 254 (two
 * at most in a frame), the delimiter is one. */
#define EEB_WIRE_SIZE(payload) ((size_t)(payload) + EEB_HEADER_SIZE + EEB_CRC_SIZE + 4u)
#define EEB_MAX_WIRE EEB_WIRE_SIZE(EEB_MAX_PAYLOAD)

/* Frame types of this version. */
#define EEB_TYPE_DATA 0x02u
#define EEB_TYPE_RESULT 0x41u

/* Sample formats: two's complement, little endian. */
#define EEB_FORMAT_I16 0u
#define EEB_FORMAT_I24 1u

/* What stands where a result has no pressure. */
#define EEB_NO_VALUE INT16_MIN

/* Whether a result may be believed; names as in BICEPS (IEEE 11073-10207) MeasurementValidity. */
#define EEB_VALIDITY_VLD 0u
#define EEB_VALIDITY_VLDATED 1u
#define EEB_VALIDITY_ONG 2u
#define EEB_VALIDITY_QST 3u
#define EEB_VALIDITY_CALIB 4u
#define EEB_VALIDITY_INV 5u
#define EEB_VALIDITY_OFLW 6u
#define EEB_VALIDITY_UFLW 7u
#define EEB_VALIDITY_NA 8u

/* Samples, from the device to the host. */
typedef struct {
    uint16_t seq;           /* number of this frame in its direction */
    bool simulated;         /* the samples do not come from a patient */
    uint32_t sample_index;  /* of the first sample, since the device started: the time base */
    uint64_t t_us;          /* device clock at the first sample */
    uint32_t lead_off;      /* bit i: positive input of channel i is off; bit 16 + i: its negative input */
    uint8_t channels;       /* 1 to EEB_MAX_CHANNELS */
    uint8_t samples;        /* per channel, 1 to 255 */
    uint8_t format;         /* EEB_FORMAT_I16 or EEB_FORMAT_I24 */
    uint8_t gain_id;        /* which gain setting the counts belong to */
    const uint8_t *packed;  /* received frames only: read it with eeb_data_count() */
} eeb_data;

/* An estimate, from the host to the device. */
typedef struct {
    uint16_t seq;
    bool simulated;
    uint32_t sample_index;  /* of the last sample of the window that was estimated */
    int16_t mpcwp_cmmhg;    /* 0.01 mmHg, or EEB_NO_VALUE */
    int16_t low_cmmhg;      /* interval; both ends or EEB_NO_VALUE twice */
    int16_t high_cmmhg;
    uint16_t p_elevated;    /* probability times 65535; without meaning unless eeb_validity_carries_value() */
    uint8_t sqi;            /* signal quality times 255 */
    uint8_t validity;       /* EEB_VALIDITY_... */
    uint32_t model_id;      /* first four bytes of the bundle's id */
    uint16_t latency_ms;    /* 65535: that or longer */
} eeb_result;

/* What was received: `type` says which member holds. */
typedef struct {
    uint8_t type;
    eeb_data data;
    eeb_result result;
} eeb_frame;

/* Every way in which bytes are lost has a counter; all wrap at 2**32. See PROTOCOL.md section 7. */
typedef struct {
    uint32_t frames;        /* handed to the caller */
    uint32_t bad_cobs;      /* the bytes between two delimiters end inside a COBS block */
    uint32_t oversize;      /* they stand for more than EEB_MAX_FRAME bytes */
    uint32_t bad_length;    /* too short, or another length than the header says */
    uint32_t bad_crc;
    uint32_t bad_version;
    uint32_t unknown_type;  /* sound frame of a type of a later version */
    uint32_t bad_field;     /* sound frame with a value that its field must not have */
    uint32_t long_payload;  /* handed to the caller, but the payload's unknown rest was skipped */
    uint32_t lost_frames;   /* sequence numbers that never came, damaged frames among them */
    uint32_t seq_back;      /* sequence numbers that went back: the sender started anew */
} eeb_counters;

/* The receiving end of one byte stream, about 700 bytes. Only `counters` is for the caller to read. */
typedef struct {
    eeb_counters counters;
    uint32_t crc;
    uint16_t size;       /* decoded bytes so far */
    uint16_t next_seq;
    uint8_t left;        /* bytes of the current COBS block still to come */
    bool started;        /* something came since the last delimiter */
    bool zero_due;       /* the last block ended with a zero, unless it was the frame's last */
    bool too_long;       /* waiting for the delimiter */
    bool synchronised;   /* next_seq holds */
    uint8_t buffer[EEB_MAX_FRAME];
} eeb_decoder;

/* Make `decoder` ready for a new stream; clears the counters. */
void eeb_decoder_init(eeb_decoder *decoder);

/* Take one byte. True when it completed a frame, which then stands in `frame`; `frame->data.packed` points into
 * `decoder` and holds until the next call. On false, what `frame` held may be gone. Each byte costs the same small
 * work whatever came before (the check value is kept up as bytes come in), so this may run in a receive
 * interrupt. Any bytes are allowed. */
bool eeb_decoder_push(eeb_decoder *decoder, uint8_t byte, eeb_frame *frame);

/* One count of a received DATA frame. Returns 0 outside the frame's samples and channels. */
int32_t eeb_data_count(const eeb_data *data, uint8_t sample, uint8_t channel);

/* Write a DATA frame as it goes on the wire, delimiter included. `counts` holds samples * channels values, sample
 * by sample, within it channel by channel; `data->packed` is not read. Returns the bytes written, or 0 and nothing
 * sent when `capacity` is below EEB_WIRE_SIZE(payload), the payload would pass EEB_MAX_PAYLOAD, or a field or
 * count does not fit. */
size_t eeb_encode_data(const eeb_data *data, const int32_t *counts, uint8_t *out, size_t capacity);

/* Write a RESULT frame as it goes on the wire; returns as eeb_encode_data(). */
size_t eeb_encode_result(const eeb_result *result, uint8_t *out, size_t capacity);

/* Whether a result of this validity may hold numbers. */
bool eeb_validity_carries_value(uint8_t validity);

/* CRC-32C of `size` bytes; pass 0, or the CRC of the bytes before to continue it. */
uint32_t eeb_crc32c(uint32_t crc, const uint8_t *bytes, size_t size);

#ifdef __cplusplus
}
#endif

#endif
