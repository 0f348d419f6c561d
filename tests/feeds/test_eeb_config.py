"""CONFIG: what a URI wants of a device, asked until it is answered, and no sample before that."""

from dataclasses import replace
from fractions import Fraction

import pytest

from ecgedge.errors import FeedError
from ecgedge.feeds.eeb_config import CONFIG_SETTINGS, read_wanted
from ecgedge.feeds.eeb_host import EebHost
from ecgedge.feeds.tcp import read_settings
from ecgedge_bridge import (
    Config,
    ConfigAck,
    ConfigStatus,
    Data,
    FilterMode,
    Info,
    Mode,
    SampleFormat,
    to_wire,
)

INFO = Info(
    seq=0, rate_num=500, rate_den=1, lsb_pv=1_000_000, gain_centi=600, leads=(1, 2), serial="SN-7",
    firmware=(1, 2, 3), mode=Mode.REAL, gain_id=1,
)  # fmt: skip


def host(query):
    found, _ = read_settings(query)
    return EebHost(
        uri="tcp://x:1", declared=found.declared, settings=found.values, framed=True, wanted=found.wanted
    )


class Line:
    """A device's end: numbers its frames, and says which CONFIGs have come."""

    def __init__(self, query):
        self.host, self.seq = host(query), 0

    def say(self, frame, now_s=0.0):
        self.seq += 1
        return self.host.take(to_wire(replace(frame, seq=self.seq - 1)), now_s=now_s)

    def data(self, index, now_s=0.0, n=25):
        counts = tuple(range(2 * n))
        return self.say(
            Data(
                seq=0, sample_index=index, t_us=index * 2000, n_channels=2, counts=counts,
                fmt=SampleFormat.I24, gain_id=1,
            ),
            now_s,
        )  # fmt: skip

    def asked(self, now_s=0.0):
        return [frame for frame in self.host.due(now_s=now_s) if isinstance(frame, Config)]

    def answer(self, config, status=ConfigStatus.APPLIED, field=0, now_s=0.0):
        ack = ConfigAck(seq=0, sample_index=0, config_id=config.config_id, status=status, field=field)
        return self.say(ack, now_s)


def test_what_is_not_named_stays_as_the_device_has_it():
    line = Line("set_rate_hz=250")
    assert line.say(INFO) == line.asked() == []
    line.data(0)
    [config] = line.asked()
    assert (config.rate_num, config.rate_den, config.channels) == (250, 1, 0b11)
    assert (config.n_samples, config.fmt, config.gain_id) == (25, SampleFormat.I24, 1)
    assert (config.filter_mode, config.mode) == (FilterMode.UNKNOWN, Mode.REAL)
    assert line.host.declared is None, "no bed begins at the old rate"
    line.answer(config)
    assert line.data(0) == []
    line.say(replace(INFO, rate_num=250))
    assert line.host.declared.rate_hz == 250.0
    assert sum(chunk.samples_mv.shape[1] for chunk in line.data(0)) == 25
    assert line.host.losses() == {"before_config": 2}
    assert line.asked(99.0) == []


def test_every_setting_by_hand():
    query = (
        "set_rate_hz=1000/3&set_channels=0,2&set_samples=10&set_format=i16&set_gain_id=4&set_filter=monitoring"
        "&set_mode=test"
    )
    line = Line(query)
    line.say(INFO)
    [config] = line.asked()
    expected = Config(
        seq=0, config_id=config.config_id, channels=0b101, rate_num=1000, rate_den=3, n_samples=10,
        fmt=SampleFormat.I16, gain_id=4, filter_mode=FilterMode.MONITORING, mode=Mode.TEST,
    )  # fmt: skip
    assert config == replace(expected, seq=config.seq)
    again = Line(query)
    again.say(INFO)
    assert again.asked()[0].config_id == config.config_id, "the same request has the same number"


def test_it_is_asked_four_times_and_then_told():
    line = Line("set_samples=10&set_format=i24")
    line.say(INFO)
    sent = [(now_s, frame) for now_s in (0.0, 0.9, 1.0, 2.0, 3.0, 3.9) for frame in line.asked(now_s)]
    assert [now_s for now_s, _ in sent] == [0.0, 1.0, 2.0, 3.0]
    assert len({frame.config_id for _, frame in sent}) == 1
    line.data(0, now_s=3.9)
    with pytest.raises(FeedError, match=r"SN-7.* was asked 4 times for set_samples=10&set_format=i24"):
        line.data(25, now_s=4.0)


def test_a_refusal_names_the_setting():
    line = Line("set_rate_hz=250&set_samples=10&set_format=i24")
    line.say(INFO)
    [config] = line.asked()
    with pytest.raises(
        FeedError,
        match=r"does not follow .*: unsupported, because of set_rate_hz=250; .*2 channels at 500 Hz",
    ):
        line.answer(config, ConfigStatus.UNSUPPORTED, field=4)


def test_a_device_that_does_otherwise_than_it_says():
    line = Line("set_rate_hz=250&set_samples=10&set_format=i24")
    line.say(INFO)
    line.answer(line.asked()[0])
    with pytest.raises(
        FeedError, match=r"says that it follows set_rate_hz=250.* and sends 2 channels at 500 Hz"
    ):
        line.say(INFO)


def test_a_device_that_follows_and_says_no_more():
    line = Line("set_rate_hz=250&set_samples=10&set_format=i24")
    line.say(INFO)
    line.answer(line.asked()[0], now_s=1.0)
    line.data(0, now_s=12.0)
    with pytest.raises(FeedError, match="has sent no INFO for 11 s"):
        line.data(25, now_s=12.1)


def test_a_device_that_starts_anew_is_asked_again():
    """It has forgotten: INFO of before, or numbers that begin anew, say so."""
    line = Line("set_rate_hz=250&set_samples=10&set_format=i24")
    line.say(INFO)
    line.answer(line.asked()[0])
    line.say(replace(INFO, rate_num=250))
    line.data(0, n=10)
    line.data(10, n=10)
    line.seq = 0
    line.say(INFO, now_s=5.0)
    assert line.data(0, now_s=5.0) == []
    [config] = line.asked(5.0)
    line.answer(config, now_s=5.1)
    line.say(replace(INFO, rate_num=250), now_s=5.1)
    line.data(0, n=10, now_s=5.2)
    assert line.data(10, n=10, now_s=5.2) != []
    assert "the device started anew" in line.host.said[-1]


def test_an_answer_that_nobody_waits_for_is_counted():
    ack = ConfigAck(seq=0, sample_index=0, config_id=7, status=ConfigStatus.APPLIED)
    for query in ("", "set_samples=10&set_format=i24"):
        line = Line(query)
        line.say(ack)
        assert line.host.losses() == {"not_asked": 1}


def test_what_fits_no_frame_is_told():
    line = Line("set_samples=255&set_format=i24")
    with pytest.raises(FeedError, match=r"set_samples=255&set_format=i24 cannot be asked for: .*at most 628"):
        line.say(INFO)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("set_rate_hz", "0"), ("set_rate_hz", "-5"), ("set_rate_hz", "1/0"), ("set_rate_hz", "5000000000"),
        ("set_rate_hz", "1e9"), ("set_channels", "16"), ("set_channels", ""), ("set_samples", "0"),
        ("set_samples", "256"), ("set_samples", "0x1"), ("set_format", "i32"), ("set_gain_id", "256"),
        ("set_filter", "off"), ("set_mode", "sim"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing(name, text):
    with pytest.raises(ValueError, match=f"{name} is '{text}', not "):
        read_wanted({name: text})


def test_settings_are_read():
    assert read_wanted({}) is None
    assert read_wanted({"set_rate_hz": "250.5"}).rate_hz == Fraction(501, 2)
    assert set(CONFIG_SETTINGS) >= {"set_rate_hz", "set_channels", "set_samples"}
