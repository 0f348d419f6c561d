"""Word to systemd, heard on a real socket."""

import os
import socket

import pytest

from ecgedge.wards.notify import notify, watchdog_s


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """A service manager that listens, as sd_notify(3) says."""
    name = str(tmp_path / "n") if request.param == "path" else f"@ecgedge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listener.settimeout(5.0)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listener


def test_the_manager_hears_each_word_as_one_datagram(manager):
    notify("READY=1")
    notify("WATCHDOG=1")
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"WATCHDOG=1"]


def test_a_manager_that_has_gone_ends_nothing(manager):
    manager.close()
    notify("WATCHDOG=1")


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all", "relative"])
def test_without_a_manager_nothing_happens(monkeypatch, address):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


@pytest.mark.parametrize(
    ("wanted", "seconds"),
    [("30000000", 30.0), ("500000", 0.5), ("0", None), ("", None), ("soon", None), ("-5", None)],
)
def test_how_often_the_watchdog_wants_to_hear(monkeypatch, wanted, seconds):
    monkeypatch.setenv("WATCHDOG_USEC", wanted)
    assert watchdog_s() == seconds


def test_no_watchdog_wants_nothing(monkeypatch):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert watchdog_s() is None
