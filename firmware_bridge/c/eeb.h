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
#define EEB_VERSION_MINOR 1u

#define EEB_HEADER_SIZE 8u
#define EEB_CRC_SIZE 4u
/* Largest decoded frame: up to 655 bytes CRC-32C finds every error of five bits or fewer. */
#define EEB_MAX_FRAME 640u
#define EEB_MAX_PAYLOAD (EEB_MAX_FRAME - EEB_HEADER_SIZE - EEB_CRC_SIZE)
#define EEB_DATA_HEAD_SIZE 20u
#define EEB_RESULT_SIZE 20u
#define EEB_INFO_SIZE 56u
#define EEB_ALERT_SIZE 12u
#define EEB_ACK_SIZE 8u
#define EEB_CONFIG_SIZE 17u
#define EEB_CONFIG_ACK_SIZE 8u
#define EEB_PING_SIZE 12u
#define EEB_PONG_SIZE 28u
#define EEB_ERROR_SIZE 8u
#define EEB_MAX_SERIAL 16u
#define EEB_MAX_CHANNELS 16u

/* Room for a frame with `payload` bytes on the wire, whatever they are: COBS adds one byte and one more per 254 (two
 * at most in a frame), the delimiter is one. */
#define EEB_WIRE_SIZE(payload) ((size_t)(payload) + EEB_HEADER_SIZE + EEB_CRC_SIZE + 4u)
#define EEB_MAX_WIRE EEB_WIRE_SIZE(EEB_MAX_PAYLOAD)

/* Frame types of this version. */
#define EEB_TYPE_INFO 0x01u
#define EEB_TYPE_DATA 0x02u
#define EEB_TYPE_ACK 0x03u
#define EEB_TYPE_CONFIG_ACK 0x04u
#define EEB_TYPE_RESULT 0x41u
#define EEB_TYPE_ALERT 0x42u
#define EEB_TYPE_CONFIG 0x43u
#define EEB_TYPE_PING 0x81u
#define EEB_TYPE_PONG 0x82u
#define EEB_TYPE_ERROR 0x83u

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

/* Where the samples come from. */
#define EEB_MODE_REAL 0u
#define EEB_MODE_TEST 1u
#define EEB_MODE_DEMO 2u

/* What the device does to the signal before it sends it. In a CONFIG, UNKNOWN leaves it as it is. */
#define EEB_FILTER_UNKNOWN 0u
#define EEB_FILTER_NONE 1u
#define EEB_FILTER_DIAGNOSTIC 2u
#define EEB_FILTER_MONITORING 3u

/* Lead codes; others are a later version's: no lead that is known here. */
#define EEB_LEAD_NONE 0u
#define EEB_LEAD_I 1u
#define EEB_LEAD_II 2u
#define EEB_LEAD_III 3u
#define EEB_LEAD_AVR 4u
#define EEB_LEAD_AVL 5u
#define EEB_LEAD_AVF 6u
#define EEB_LEAD_V1 7u
#define EEB_LEAD_V2 8u
#define EEB_LEAD_V3 9u
#define EEB_LEAD_V4 10u
#define EEB_LEAD_V5 11u
#define EEB_LEAD_V6 12u

/* Alarm conditions; others but 0 are a later version's. */
#define EEB_CONDITION_MPCWP_ELEVATED 1u
#define EEB_CONDITION_FEED_LOST 2u
#define EEB_CONDITION_MODEL_FAILED 3u
#define EEB_CONDITION_NO_VARIANT 4u
#define EEB_CONDITION_LEAD_OFF 5u
#define EEB_CONDITION_FEED_STALE 6u
#define EEB_CONDITION_FEED_RATE 7u
#define EEB_CONDITION_FEED_DELAYED 8u
#define EEB_CONDITION_SATURATED 9u
#define EEB_CONDITION_FLAT 10u
#define EEB_CONDITION_GAP 11u
#define EEB_CONDITION_POOR_SIGNAL 12u
#define EEB_CONDITION_OUT_OF_ENVELOPE 13u
#define EEB_CONDITION_SIGNAL_DOUBTFUL 14u
#define EEB_CONDITION_MODEL_LATE 15u
#define EEB_CONDITION_JOURNAL_FAILED 16u
#define EEB_CONDITION_DELIVERY_FAILED 17u
#define EEB_CONDITION_CLOCK_UNSYNC 18u
#define EEB_CONDITION_MPCWP_RISING 19u

#define EEB_KIND_PHYSIOLOGICAL 0u
#define EEB_KIND_TECHNICAL 1u

#define EEB_PRIORITY_NONE 0u
#define EEB_PRIORITY_LOW 1u
#define EEB_PRIORITY_MEDIUM 2u
#define EEB_PRIORITY_HIGH 3u

#define EEB_SIGNAL_OFF 0u
#define EEB_SIGNAL_ON 1u
#define EEB_SIGNAL_LATCHED 2u
#define EEB_SIGNAL_ACKNOWLEDGED 3u

#define EEB_CONFIG_APPLIED 0u
#define EEB_CONFIG_UNSUPPORTED 1u
#define EEB_CONFIG_BUSY 2u
#define EEB_CONFIG_FAILED 3u

/* Error codes; others but 0 are a later version's. */
#define EEB_ERROR_VERSION 1u
#define EEB_ERROR_UNKNOWN_CONDITION 2u
#define EEB_ERROR_UNSUPPORTED 3u
#define EEB_ERROR_BUSY 4u
#define EEB_ERROR_INTERNAL 5u

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

/* What the device is and how it samples, from the device on connect and every 5 s. */
typedef struct {
    uint16_t seq;
    bool simulated;         /* set unless the mode is EEB_MODE_REAL */
    uint8_t spec_minor;     /* EEB_VERSION_MINOR */
    uint8_t mode;           /* EEB_MODE_... */
    uint8_t filter_mode;    /* EEB_FILTER_... */
    uint32_t rate_num;      /* samples per second and channel, as a fraction of two numbers above 0 */
    uint32_t rate_den;
    uint32_t lsb_pv;        /* worth of one count at the input, picovolts; the gain is in it already */
    uint16_t gain_centi;    /* gain before the converter, times 100 */
    uint8_t gain_id;        /* the gain setting that both belong to */
    uint8_t channels;       /* 1 to EEB_MAX_CHANNELS */
    uint8_t leads[EEB_MAX_CHANNELS];   /* EEB_LEAD_... per channel; 0 beyond them */
    char serial[EEB_MAX_SERIAL + 1u];  /* 1 to 16 printable ASCII characters without blanks, then zeros */
    uint8_t firmware_major;
    uint8_t firmware_minor;
    uint16_t firmware_patch;
} eeb_info;

/* An alarm condition and its signal, from the host to the device. */
typedef struct {
    uint16_t seq;
    bool simulated;
    uint32_t sample_index;  /* the sample at which this state began */
    uint16_t condition;     /* EEB_CONDITION_..., or a later version's; never 0 */
    uint8_t kind;           /* EEB_KIND_... */
    uint8_t priority;       /* EEB_PRIORITY_... */
    bool present;           /* then the signal is on or acknowledged, else off or latched */
    uint8_t signal;         /* EEB_SIGNAL_... */
    uint16_t text_id;       /* 0: the condition's own text */
} eeb_alert;

/* A user has seen an alarm, from the device to the host. */
typedef struct {
    uint16_t seq;
    bool simulated;
    uint32_t sample_index;  /* newest sample when the button was pressed */
    uint16_t condition;
    uint16_t user_id;       /* 0: a button, nobody known */
} eeb_ack;

/* How the device shall sample and send, from the host. */
typedef struct {
    uint16_t seq;
    bool simulated;
    uint16_t config_id;     /* the host's number for this request */
    uint16_t channels;      /* bit i: send channel i; at least one */
    uint32_t rate_num;
    uint32_t rate_den;
    uint8_t samples;        /* per channel and frame; DATA must fit EEB_MAX_PAYLOAD */
    uint8_t format;         /* EEB_FORMAT_... */
    uint8_t gain_id;
    uint8_t filter_mode;    /* EEB_FILTER_... */
    uint8_t mode;           /* EEB_MODE_... */
} eeb_config;

/* What became of a CONFIG, from the device. */
typedef struct {
    uint16_t seq;
    bool simulated;
    uint32_t sample_index;  /* first sample to which the settings apply, if they do */
    uint16_t config_id;
    uint8_t status;         /* EEB_CONFIG_APPLIED ... */
    uint8_t field;          /* offset in the CONFIG of the first field refused; 0: none or not known */
} eeb_config_ack;

/* A question for the other side's clock. */
typedef struct {
    uint16_t seq;
    bool simulated;
    uint32_t ping_id;
    uint64_t t1_us;         /* asker's clock as it sends */
} eeb_ping;

/* The answer: ping_id and t1_us repeated. */
typedef struct {
    uint16_t seq;
    bool simulated;
    uint32_t ping_id;
    uint64_t t1_us;
    uint64_t t2_us;         /* answerer's clock as the PING came */
    uint64_t t3_us;         /* answerer's clock as this goes; not before t2_us */
} eeb_pong;

/* What one side cannot do for the other. Never answered with another one. */
typedef struct {
    uint16_t seq;
    bool simulated;
    uint8_t code;           /* EEB_ERROR_..., or a later version's; never 0 */
    uint8_t about_type;     /* the frame that it answers; 0 and 0: none, or one that could not be read */
    uint16_t about_seq;
    uint32_t detail;        /* for EEB_ERROR_VERSION the sender's major version */
} eeb_error;

/* What was received: `type` says which member holds. */
typedef struct {
    uint8_t type;
    eeb_data data;
    eeb_result result;
    eeb_info info;
    eeb_alert alert;
    eeb_ack ack;
    eeb_config config;
    eeb_config_ack config_ack;
    eeb_ping ping;
    eeb_pong pong;
    eeb_error error;
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
    uint16_t size;       /* decoded bytes so far; EEB_MAX_FRAME + 1: too many */
    uint16_t next_seq;
    uint8_t left;        /* bytes of the current COBS block still to come */
    bool zero_due;       /* the last block ended with a zero, unless it was the frame's last */
    bool synchronised;   /* next_seq holds */
    uint8_t buffer[EEB_MAX_FRAME];
} eeb_decoder;

/* Make `decoder` ready for a new stream; clears the counters. */
void eeb_decoder_init(eeb_decoder *decoder);

/* Take one byte. True when it completed a frame, which then stands in `frame`; `frame->data.packed` points into
 * `decoder` and holds until the next call. On false, what `frame` held may be gone. Each byte costs the same small
 * work whatever came before (the check value is kept up as bytes come in), and a delimiter the reading of 60 bytes at
 * most besides, so this may run in a receive interrupt. Any bytes are allowed. */
bool eeb_decoder_push(eeb_decoder *decoder, uint8_t byte, eeb_frame *frame);

/* One count of a received DATA frame. Returns 0 outside the frame's samples and channels. */
int32_t eeb_data_count(const eeb_data *data, uint8_t sample, uint8_t channel);

/* Write a DATA frame as it goes on the wire, delimiter included. `counts` holds samples * channels values, sample
 * by sample, within it channel by channel; `data->packed` is not read. Returns the bytes written, or 0 when `capacity`
 * is below EEB_WIRE_SIZE(payload), the payload would pass EEB_MAX_PAYLOAD, or a field or count does not fit: then
 * nothing is to be sent, whatever stands in `out`. */
size_t eeb_encode_data(const eeb_data *data, const int32_t *counts, uint8_t *out, size_t capacity);

/* Write a RESULT frame as it goes on the wire; returns as eeb_encode_data(). */
size_t eeb_encode_result(const eeb_result *result, uint8_t *out, size_t capacity);

/* Write one of the other messages as it goes on the wire; each returns as eeb_encode_data(). */
size_t eeb_encode_info(const eeb_info *info, uint8_t *out, size_t capacity);
size_t eeb_encode_alert(const eeb_alert *alert, uint8_t *out, size_t capacity);
size_t eeb_encode_ack(const eeb_ack *ack, uint8_t *out, size_t capacity);
size_t eeb_encode_config(const eeb_config *config, uint8_t *out, size_t capacity);
size_t eeb_encode_config_ack(const eeb_config_ack *config_ack, uint8_t *out, size_t capacity);
size_t eeb_encode_ping(const eeb_ping *ping, uint8_t *out, size_t capacity);
size_t eeb_encode_pong(const eeb_pong *pong, uint8_t *out, size_t capacity);
size_t eeb_encode_error(const eeb_error *error, uint8_t *out, size_t capacity);

/* Whether a result of this validity may hold numbers. */
bool eeb_validity_carries_value(uint8_t validity);

/* CRC-32C of `size` bytes; pass 0, or the CRC of the bytes before to continue it. */
uint32_t eeb_crc32c(uint32_t crc, const uint8_t *bytes, size_t size);

#ifdef __cplusplus
}
#endif

#endif
