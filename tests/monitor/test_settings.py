"""Where the page may listen: loopback for whoever is there, anything else with TLS and users."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.errors import UsageError
from ecgedge.monitor.beds import scrub
from ecgedge.monitor.page import allowed_hosts, tls_context, without_secrets
from ecgedge.monitor.settings import PageSettings, check_settings, parse_address

ALL = {"users": "u.toml", "cert": "c.pem", "key": "k.pem"}


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8080", "127.0.0.1", 8080),
        ("0", "127.0.0.1", 0),
        (":80", "127.0.0.1", 80),
        ("localhost:1", "localhost", 1),
        ("192.168.1.5:65535", "192.168.1.5", 65535),
        ("[::1]:8080", "::1", 8080),
    ],
)
def test_addresses(text, host, port):
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize("text", ["", "x", "65536", "-1", "1.5", "a:", "::1:8080", "host:port", "80 80", "٣"])
def test_what_is_no_address(text):
    with pytest.raises(UsageError, match="expected PORT or HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.9", "[::1]"])
def test_loopback_needs_nothing(host):
    check_settings(PageSettings(f"{host}:0"))


@pytest.mark.parametrize("host", ["0", "[::]", "192.168.1.5", "ward.example", "localhost.example"])
@pytest.mark.parametrize("missing", ["users", "cert", "both"])
def test_any_other_address_needs_tls_and_users(host, missing):
    has = {
        k: v for k, v in ALL.items() if missing != "both" and not (missing == "cert" and k in ("cert", "key"))
    }
    has.pop(missing, None)
    with pytest.raises(UsageError, match=r"other machines can reach it.*ecgedge page add"):
        check_settings(PageSettings(f"{host}:8080", **has))
    check_settings(PageSettings(f"{host}:8080", **ALL))


def test_half_a_pair_and_a_foreign_name_are_refused():
    with pytest.raises(UsageError, match="go together"):
        check_settings(PageSettings("8080", cert="c.pem"))
    with pytest.raises(UsageError, match="not by this machine alone"):
        check_settings(PageSettings("8080", hosts=("ward.example",)))
    check_settings(PageSettings("8080", users="u.toml", hosts=("ward.example",)))


def test_names_of_the_page():
    assert "localhost" in allowed_hosts(PageSettings("8080"))
    exposed = allowed_hosts(PageSettings("10.0.0.7:1", **ALL, hosts=("ward.example",)))
    assert "ward.example" in exposed
    assert "localhost" not in exposed


def test_a_certificate_that_cannot_be_read_says_so(tmp_path):
    (tmp_path / "c.pem").write_text("nonsense")
    for cert in ("c.pem", "none.pem"):
        with pytest.raises(UsageError, match="both must be PEM"):
            tls_context(PageSettings("0", cert=str(tmp_path / cert), key=str(tmp_path / "c.pem")))


@pytest.mark.parametrize(
    ("uri", "seen"),
    [
        ("sim:stable?seed=2", "sim:stable?seed=2"),
        ("mqtts://nurse:secret@broker:8883/ward/a?password_file=x&token=y", "mqtts://broker:8883/ward/a"),
        ("tcp://10.0.0.7:7000?leads=I", "tcp://10.0.0.7:7000"),
        ("lsl:NAME?x=1", "lsl:NAME"),
    ],
)
def test_a_feed_is_named_without_its_secrets(uri, seen):
    assert without_secrets(uri) == seen


def test_an_error_is_told_without_secrets():
    said = "tcp://me:pw@10.0.0.7:7000?leads=I&token=abc: cannot connect. Is the device on?; trying again"
    assert scrub(said) == "tcp://10.0.0.7:7000: cannot connect. Is the device on?; trying again"


@given(st.text())
def test_scrubbing_never_fails(text):
    scrub(text)
