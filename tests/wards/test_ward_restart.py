"""A ward that is served again from what it left: what is on, what has ended, what does not fit."""

import numpy as np
import pytest
from ward_lines import chunks, has, of, timeless, until

from ecgedge.journal import read_journal
from ecgedge.leads import STANDARD_LEADS
from ecgedge.stream import Bed
from ecgedge.wards.config import BedConfig
from ecgedge.wards.state import replace_file

BEGIN = {"bed": "a", "type": "feed", "t_s": 0.0, "state": "connected", "lead": None, "age_s": None}


# --- restarts ---


LEAD_I_OFF = np.zeros((12, 2500), np.float32)
LEAD_I_OFF[0] = np.nan


def restart(ward, memory, tmp_path, *openings, is_so, first=None, **options):
    """Serve a bed whose lead I is off (or `first`), stop, and serve it again from the second feed."""
    (first_lines, _) = ward(
        lambda s, lines: _serve(s, lines, memory, [first or [*chunks(LEAD_I_OFF), 3600.0]]), state=tmp_path
    )
    return first_lines, *ward(
        lambda s, lines: _serve(s, lines, memory, openings, is_so=is_so, **options), state=tmp_path
    )


async def _serve(service, lines, memory, openings, *, is_so=None, **options):
    memory.openings.clear()
    service.add(BedConfig("a", memory.add("a", *openings, **options)))
    await until(is_so(lines) if is_so else lambda: has(lines, condition="LEAD_OFF", signal="on"))


def test_after_a_restart_what_is_on_is_told_anew_and_the_stream_goes_on(ward, memory, tmp_path):
    def is_so(lines):
        return lambda: has(lines, type="estimate", t_s=20.0)

    before, after, said = restart(
        ward, memory, tmp_path, [*chunks(LEAD_I_OFF, t0_s=10.0), 3600.0], is_so=is_so
    )
    assert said == []
    (alarm,) = of(before, "a", "alarm")
    assert of(after, "a")[0] == alarm
    assert of(after, "a", "alarm") == [alarm]
    assert [x["t_s"] for x in of(after, "a", "estimate")] == [15.0, 20.0]
    assert of(after, "a", "summary")[0]["windows"] == 3


def test_restart_upon_restart_time_goes_on_and_does_not_leap(ward, memory, tmp_path):
    """The feed's time begins anew each time, so stream time is ahead of it."""
    last_s = 0.0
    for _ in range(4):
        lines, _ = ward(
            lambda s, lines: _serve(
                *(s, lines, memory, [[*chunks(LEAD_I_OFF), 3600.0]]),
                is_so=lambda lines: lambda: has(lines, type="estimate"),
            ),
            state=tmp_path,
            journals=tmp_path,
        )
        times_s = [x["t_s"] for x in of(lines, "a", "self_check", "estimate", "feed")]
        assert times_s == sorted(times_s)
        assert last_s <= times_s[0]
        assert times_s[-1] <= last_s + 11.0
        last_s = times_s[-1]


def test_after_a_restart_without_its_feed_what_is_on_is_told_anew(ward, memory, tmp_path):
    def is_so(lines):
        return lambda: has(lines, condition="FEED_LOST")

    before, after, said = restart(ward, memory, tmp_path, is_so=is_so)
    assert said == ["bed a: memory:a does not answer; trying again"]
    assert of(after, "a", "alarm")[0] == of(before, "a", "alarm")[0]
    assert of(after, "a", "alarm")[1]["t_s"] == 10.0


def test_after_a_restart_a_feed_that_opens_and_is_silent_is_lost(ward, silence, memory, tmp_path):
    def is_so(lines):
        return lambda: has(lines, condition="FEED_LOST")

    _, after, said = restart(ward, memory, tmp_path, [3600.0], is_so=is_so)
    assert said == []
    assert of(after, "a", "alarm")[1]["t_s"] == 12.0


def test_after_a_restart_what_ended_untold_is_told_as_off(ward, memory, tmp_path):
    first = [*chunks(LEAD_I_OFF[:, :2250]), *chunks(np.zeros((12, 250), np.float32), t0_s=9.0), 3600.0]

    def is_so(lines):
        return lambda: has(lines, type="estimate")

    _, after, _ = restart(
        ward,
        memory,
        tmp_path,
        [*chunks(np.zeros((12, 2500), np.float32), t0_s=10.0), 3600.0],
        is_so=is_so,
        first=first,
    )
    told = of(after, "a")[0]
    assert (told["condition"], told["presence"], told["signal"]) == ("LEAD_OFF", "off", "off")


def test_the_journal_goes_on_after_a_restart(ward, memory, tmp_path):
    def served(openings, is_so=None):
        return ward(
            lambda s, lines: _serve(s, lines, memory, openings, is_so=is_so),
            state=tmp_path,
            journals=tmp_path,
        )

    served([[*chunks(LEAD_I_OFF), 3600.0]])
    lines, _ = served([[3600.0]], lambda lines: lambda: has(lines, condition="LEAD_OFF"))
    kept = [e.event for e in read_journal(tmp_path / "a.jsonl")]
    (reopened,) = [e for e in kept if e["type"] == "reopened"]
    assert reopened["facts"]["restored"] is True
    own = kept[kept.index(reopened) + 1 :]
    assert timeless([{"bed": "a", **e} for e in own if e["type"] != "input"]) == of(lines, "a")


def test_what_ailed_an_earlier_process_is_told_as_off(
    ward, memory, formula_bundle, new_variants, ecg, tmp_path
):
    bed = Bed(formula_bundle, leads=STANDARD_LEADS, rate_hz=250.0, variants=new_variants(), mode="demo")
    bed.push(ecg[:, :2500], t_s=0.0)
    assert bed.journal(10.0, why="no space left")
    assert bed.model_late(10.0, why="estimates come late") == []
    bed.advance(21.0)
    ailing = {"JOURNAL_FAILED", "MODEL_LATE"}
    assert ailing <= {alarm.condition for alarm in bed.alarms()}
    replace_file(tmp_path / "a.bed", bed.snapshot().to_bytes())
    lines, _ = ward(
        lambda s, lines: _serve(
            s,
            lines,
            memory,
            [[3600.0]],
            is_so=lambda lines: lambda: all(has(lines, condition=c, presence="off") for c in ailing),
        ),
        state=tmp_path,
        journals=tmp_path,
    )
    assert {e["condition"] for e in of(lines, "a") if e.get("presence") == "off"} >= ailing


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leads": ("I", "II")}, "the feed has leads I,II at 250 Hz"),
        ({"mode": "test"}, "the feed has leads"),
    ],
)
def test_the_state_of_another_feed_is_set_aside_and_said(ward, alone, memory, ecg, tmp_path, changes, words):
    leads = changes.get("leads", STANDARD_LEADS)
    samples_mv = ecg[: len(leads), :2500]

    def is_so(lines):
        return lambda: has(lines, type="estimate")

    _, after, said = restart(ward, memory, tmp_path, [*chunks(samples_mv), 3600.0], is_so=is_so, **changes)
    (text,) = said
    for word in ("begins anew", words, "must be looked at by hand", f"{tmp_path / 'a.bed'}.unfit"):
        assert word in text
    assert (tmp_path / "a.bed.unfit").exists()
    assert of(after, "a") == alone(lambda bed: bed.push(samples_mv, t_s=0.0), **{"leads": leads, **changes})


def test_a_damaged_state_is_set_aside_and_said(ward, alone, memory, ecg, tmp_path):
    (tmp_path / "a.bed").write_bytes(b"torn")

    async def test(service, lines):
        service.add(BedConfig("a", memory.add("a", [*chunks(ecg[:, :2500]), 3600.0])))
        await until(lambda: has(lines, type="estimate"))

    lines, said = ward(test, state=tmp_path)
    assert of(lines, "a") == alone(lambda bed: bed.push(ecg[:, :2500], t_s=0.0))
    assert "or damaged" in said[0]
    assert (tmp_path / "a.bed.unfit").read_bytes() == b"torn"


def test_before_an_alarm_is_told_it_is_in_the_state(ward, memory, tmp_path, monkeypatch, new_lines):
    kept, real = [], new_lines.put

    def put(self, line, *, kind, urgent):
        if urgent:
            kept.append((tmp_path / "a.bed").read_bytes())
        real(self, line, kind=kind, urgent=urgent)

    monkeypatch.setattr(new_lines, "put", put)

    async def test(service, lines):
        service.add(BedConfig("a", memory.add("a", [*chunks(LEAD_I_OFF), 3600.0])))
        await until(lambda: has(lines, condition="LEAD_OFF"))

    ward(test, state=tmp_path, state_s=3000.0)
    assert len(kept) == 1
    assert b'"LEAD_OFF":1' in kept[0]
