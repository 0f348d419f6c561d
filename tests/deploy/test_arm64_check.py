"""`make aarch64-check` itself: minutes, most of them in the emulator."""

import sys

import arm64_check
import pytest
from arm64_root import missing_tools


@pytest.mark.slow
def test_aarch64_says_what_this_machine_says(capsys):
    if missing := missing_tools():
        pytest.skip(f"{', '.join(missing)} absent; `make system-deps-slow` installs them on Debian")
    code = arm64_check.main()
    printed = capsys.readouterr().out
    with capsys.disabled():
        sys.stdout.write(f"\n{printed}")
    assert code == 0, printed
    assert "machine aarch64" in printed
    # What was compared is not nothing: every kind of transition, and three variants.
    for transition in ("MPCWP_ELEVATED low on", "MPCWP_ELEVATED medium on", "MPCWP_ELEVATED medium off"):
        assert transition in printed
    assert "LEAD_OFF low on" in printed
    assert "LEAD_OFF low off" in printed
    assert "served by 12/fp32, I,II,V1/fp32, I,II/fp32" in printed
    assert "aarch64-check: all agree" in printed


def test_a_missing_emulator_is_named(monkeypatch, capsys):
    monkeypatch.setattr(arm64_check, "missing_tools", lambda: ["proot"])
    assert arm64_check.main() == 2
    assert "needs proot; `make system-deps-slow`" in capsys.readouterr().out
