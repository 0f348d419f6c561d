"""Another bundle for a ward that runs: all beds or none, and alarms stay."""

import asyncio
import json

import hand_made
import numpy as np
import pytest
from ward_lines import chunks, ended, has, of, until

from ecgedge.bundle import load_bundle
from ecgedge.errors import UsageError
from ecgedge.journal import read_journal
from ecgedge.leads import STANDARD_LEADS
from ecgedge.stream import Bed, Variants
from ecgedge.wards.config import BedConfig
from ecgedge.wards.control import WardControl

BEGIN = {"bed": "a", "type": "feed", "t_s": 0.0, "state": "connected", "lead": None, "age_s": None}


# --- bundles that are exchanged ---


@pytest.fixture(scope="module")
def other_bundles(tmp_path_factory):
    """One that answers twice as much, one that fails its self-test, one with another hop."""
    folder, sets = tmp_path_factory.mktemp("bundles"), (STANDARD_LEADS, ("I", "II"), ("II",))
    hand_made.make_formula_bundle(folder / "twice.ecgb", sets, factor=600.0)
    hand_made.make_formula_bundle(folder / "wrong.ecgb", sets, factor=600.0, claimed_factor=300.0)
    hand_made.make_formula_bundle(folder / "hop.ecgb", sets, hop_s=2.5)
    return folder


async def open_bundle(path):
    bundle = load_bundle(path)
    return bundle, Variants(bundle)


def swapping(ward, memory, samples_mv, asked, *, beside=None, **options):
    """Serve 20 s, ask for a swap, serve the rest; return lines, the answer, and the status after it."""
    answers = []

    async def test(service, lines):
        control = WardControl(service, open_bundle=open_bundle)
        go_on = asyncio.Event()
        steps = [*chunks(samples_mv[:, :5000]), go_on, *chunks(samples_mv[:, 5000:], t0_s=20.0)]
        service.add(BedConfig("a", memory.add("a", steps, live=False)))
        service.add(beside or BedConfig("waits", "memory:none"))
        await until(lambda: has(lines, type="estimate", t_s=20.0))
        await until(lambda: beside is None or has(lines, beside.name, type="estimate"))
        answers.append(await control.answer(json.dumps({"do": "swap", "bundle": str(asked)}).encode()))
        answers.append(service.status())
        go_on.set()
        await until(lambda: ended(lines, "a"))

    lines, _ = ward(test, **options)
    return lines, *answers


def test_another_bundle_answers_from_the_next_window_on(
    ward, alone, memory, ecg, other_bundles, formula_bundle, tmp_path
):
    twice = load_bundle(other_bundles / "twice.ecgb")
    lines, answer, status = swapping(ward, memory, ecg, other_bundles / "twice.ecgb", journals=tmp_path)

    def tell(bed):
        events = bed.push(ecg[:, :5000], t_s=0.0)
        with Variants(twice) as variants:
            bed.serve(twice, variants)
            events += bed.push(ecg[:, 5000:], t_s=20.0)
        return events

    assert of(lines, "a") == alone(tell)
    assert answer == {"ok": True, "bundle": twice.id, "not_serving": []}
    assert status["bundle"] == twice.id
    plain = alone(lambda bed: bed.push(ecg, t_s=0.0))
    old, new = (
        [x["mpcwp_mmhg"] for x in rows if x["type"] == "estimate"] for rows in (plain, of(lines, "a"))
    )
    assert new[:3] == old[:3]
    assert [x for x in new[3:] if x is not None] == pytest.approx([2.0 * x for x in old[3:] if x is not None])
    (noted,) = [e.event for e in read_journal(tmp_path / "a.jsonl") if e.event["type"] == "bundle"]
    assert (noted["from"], noted["to"]) == (formula_bundle.id, twice.id)
    assert 20.0 <= noted["t_s"] <= 25.0


def test_an_alarm_that_is_on_outlives_the_exchange(ward, memory, ecg, other_bundles):
    samples_mv = ecg.copy()
    samples_mv[0] = np.nan
    lines, answer, status = swapping(ward, memory, samples_mv, other_bundles / "twice.ecgb")
    assert answer["ok"] is True
    assert status["beds"]["a"]["alarms"] == ["LEAD_OFF"]
    told = [x for x in of(lines, "a", "alarm") if x["condition"] == "LEAD_OFF"]
    assert [x["presence"] for x in told] == ["on"] * len(told)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrong.ecgb", "self-test"),
        ("hop.ecgb", "has another front end, window or hop"),
        ("none.ecgb", "no bundle (nothing there)"),
    ],
)
def test_a_bundle_that_cannot_serve_is_refused_and_the_old_one_goes_on(
    ward, alone, memory, ecg, other_bundles, formula_bundle, name, words
):
    lines, answer, status = swapping(ward, memory, ecg, other_bundles / name)
    assert answer["ok"] is False
    assert words in answer["error"]
    assert status["bundle"] == formula_bundle.id
    assert of(lines, "a") == alone(lambda bed: bed.push(ecg, t_s=0.0))


def test_where_one_bed_cannot_be_served_none_is_exchanged(
    ward, alone, memory, ecg, other_bundles, monkeypatch
):
    check = Bed.check_serves

    def refuse_two_leads(self, bundle, variants):
        check(self, bundle, variants)
        if self.leads == ("I", "II"):
            raise UsageError("not for two leads")

    monkeypatch.setattr(Bed, "check_serves", refuse_two_leads)
    uri = memory.add("b", [*chunks(ecg[:2, :2500]), 3600.0], leads=("I", "II"))
    lines, answer, _ = swapping(ward, memory, ecg, other_bundles / "twice.ecgb", beside=BedConfig("b", uri))
    assert answer == {"ok": False, "error": "not for two leads"}
    assert of(lines, "a") == alone(lambda bed: bed.push(ecg, t_s=0.0))


def test_variants_that_do_not_serve_any_more_are_closed(ward, memory, ecg, other_bundles, monkeypatch):
    closed, close = [], Variants.close

    def note(self):
        closed.append(self)
        close(self)

    monkeypatch.setattr(Variants, "close", note)
    swapping(ward, memory, ecg[:, :6000], other_bundles / "hop.ecgb")
    assert len(set(map(id, closed))) == 2  # those refused, and at the end those that served
    closed.clear()
    swapping(ward, memory, ecg[:, :6000], other_bundles / "twice.ecgb")
    assert len(set(map(id, closed))) == 2
