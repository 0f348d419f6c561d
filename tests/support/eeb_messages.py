"""Any message of EEB v1 that is neither DATA nor RESULT, for property tests."""

from hypothesis import strategies as st

from ecgedge_bridge import (
    Ack,
    Alert,
    AlertKind,
    AlertPriority,
    Config,
    ConfigAck,
    ConfigStatus,
    Error,
    FilterMode,
    Info,
    Mode,
    Ping,
    Pong,
    SampleFormat,
    SignalPresence,
)

PRESENT = (SignalPresence.ON, SignalPresence.ACKNOWLEDGED)


def unsigned(bits, least=0):
    return st.integers(least, 2**bits - 1)


@st.composite
def leads(draw):
    known = draw(st.permutations(range(1, 13)))
    codes = [*known, *draw(st.lists(st.sampled_from([0, 13, 255]), min_size=16, max_size=16))]
    return tuple(draw(st.permutations(codes))[: draw(st.integers(1, 16))])


@st.composite
def infos(draw):
    mode = draw(st.sampled_from(Mode))
    return Info(
        seq=draw(unsigned(16)),
        rate_num=draw(unsigned(32, 1)),
        rate_den=draw(unsigned(32, 1)),
        lsb_pv=draw(unsigned(32, 1)),
        gain_centi=draw(unsigned(16, 1)),
        gain_id=draw(unsigned(8)),
        leads=draw(leads()),
        serial=draw(st.text([chr(c) for c in range(0x21, 0x7F)], min_size=1, max_size=16)),
        firmware=(draw(unsigned(8)), draw(unsigned(8)), draw(unsigned(16))),
        mode=mode,
        filter_mode=draw(st.sampled_from(FilterMode)),
        spec_minor=draw(unsigned(8)),
        simulated=mode is not Mode.REAL,
    )


@st.composite
def alerts(draw):
    signal = draw(st.sampled_from(SignalPresence))
    return Alert(
        seq=draw(unsigned(16)),
        sample_index=draw(unsigned(32)),
        condition=draw(unsigned(16, 1)),
        kind=draw(st.sampled_from(AlertKind)),
        priority=draw(st.sampled_from(AlertPriority)),
        present=signal in PRESENT,
        signal=signal,
        text_id=draw(unsigned(16)),
        simulated=draw(st.booleans()),
    )


@st.composite
def configs(draw):
    channels = draw(unsigned(16, 1))
    fmt = draw(st.sampled_from(SampleFormat))
    most = min(255, 608 // (channels.bit_count() * fmt.width))
    return Config(
        seq=draw(unsigned(16)),
        config_id=draw(unsigned(16)),
        channels=channels,
        rate_num=draw(unsigned(32, 1)),
        rate_den=draw(unsigned(32, 1)),
        n_samples=draw(st.integers(1, most)),
        fmt=fmt,
        gain_id=draw(unsigned(8)),
        filter_mode=draw(st.sampled_from(FilterMode)),
        mode=draw(st.sampled_from(Mode)),
        simulated=draw(st.booleans()),
    )


@st.composite
def config_acks(draw):
    status = draw(st.sampled_from(ConfigStatus))
    return ConfigAck(
        seq=draw(unsigned(16)),
        sample_index=draw(unsigned(32)),
        config_id=draw(unsigned(16)),
        status=status,
        field=0 if status is ConfigStatus.APPLIED else draw(st.integers(0, 16)),
        simulated=draw(st.booleans()),
    )


@st.composite
def pongs(draw):
    t2_us, t3_us = sorted(draw(st.tuples(unsigned(64), unsigned(64))))
    return Pong(
        seq=draw(unsigned(16)),
        ping_id=draw(unsigned(32)),
        t1_us=draw(unsigned(64)),
        t2_us=t2_us,
        t3_us=t3_us,
        simulated=draw(st.booleans()),
    )


ACKS = st.builds(
    Ack,
    seq=unsigned(16),
    sample_index=unsigned(32),
    condition=unsigned(16, 1),
    user_id=unsigned(16),
    simulated=st.booleans(),
)
PINGS = st.builds(Ping, seq=unsigned(16), ping_id=unsigned(32), t1_us=unsigned(64), simulated=st.booleans())
ERRORS = st.builds(
    Error,
    seq=unsigned(16),
    code=unsigned(8, 1),
    about_type=unsigned(8),
    about_seq=unsigned(16),
    detail=unsigned(32),
    simulated=st.booleans(),
)
MESSAGES = st.one_of(infos(), alerts(), ACKS, configs(), config_acks(), PINGS, pongs(), ERRORS)
