"""What more leads gain: the manifest's own figures side by side, and no word where there is nothing to compare."""

from dataclasses import replace

import pytest

from ecgedge.bundle import ResultRow, StreamSpec, load_bundle
from ecgedge.gains import describe_gains, lead_set_gains


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("embedded")


def _with_results(bundle, *rows):
    return replace(bundle, manifest=replace(bundle.manifest, results=rows))


def _rows(values, **options):
    return [ResultRow("x", leads, "auroc", value, **options) for leads, value in values.items()]


VALUES = {"12": 0.80, "I,II,V1": 0.79, "I,II": 0.78, "I": 0.70, "II": 0.72}


def test_against_the_better_of_the_smallest(bundle):
    gains = lead_set_gains(_with_results(bundle, *_rows(VALUES)).manifest)
    assert [g.variant.name for g in gains] == [v.name for v in bundle.manifest.variants]
    assert {g.reference for g in gains} == {"II"}
    assert [round(g.difference, 6) for g in gains] == [0.08, 0.07, 0.06, -0.02, 0.0]
    assert [g.clear for g in gains] == [None] * 5
    macs = {v.name: v.macs for v in bundle.manifest.variants}
    assert gains[0].macs_ratio == macs["12/fp32"] / macs["II/fp32"]


def test_clear_means_outside_the_interval(bundle):
    rows = _rows({k: v for k, v in VALUES.items() if k != "12"}, low=0.71, high=0.79)
    rows += _rows({"12": 0.80}, low=0.75, high=0.85)
    gains = {g.variant.name: g.clear for g in lead_set_gains(_with_results(bundle, *rows).manifest)}
    assert gains["12/fp32"] is True
    assert gains["I/fp32"] is False


def test_the_first_figure_that_all_lead_sets_have(bundle):
    only_some = [ResultRow("x", "12", "f1", 0.5), ResultRow("x", "I", "f1", 0.4)]
    gains = lead_set_gains(_with_results(bundle, *only_some, *_rows(VALUES)).manifest)
    assert gains[0].result.metric == "auroc"


def test_streaming_forms_are_left_out(bundle):
    spec = StreamSpec(256, 79, 32, 2560, 3840, 3600.0, ("state_00",), ((2, 13),))
    streams = tuple(replace(v, stream=spec, macs=1) for v in bundle.manifest.variants)
    alone = _with_results(bundle, *_rows(VALUES)).manifest
    both = replace(alone, variants=(*streams, *alone.variants))
    assert lead_set_gains(both) == lead_set_gains(alone) != ()
    assert lead_set_gains(replace(alone, variants=streams)) == ()


def test_nothing_to_compare(bundle):
    assert lead_set_gains(_with_results(bundle).manifest) == ()
    assert lead_set_gains(_with_results(bundle, *_rows({"12": 0.8})).manifest) == ()
    assert describe_gains(_with_results(bundle)) == ""


def test_the_text_of_the_embedded_bundle(bundle):
    text = describe_gains(bundle, latency_ms={"12/fp32": 1.25})
    lines = text.splitlines()
    assert "auroc_gt_15 on sim, SIMULATED, against II alone" in lines[0]
    shown = {row.lead_set: row for row in bundle.manifest.results if row.metric == "auroc_gt_15"}
    assert f"{shown['12'].value:.3f} ({shown['12'].low:.3f} to {shown['12'].high:.3f})" in lines[1]
    assert lines[1].endswith("1.25 ms")
    assert "reference" in lines[5]
    assert "within its interval" in lines[4]
