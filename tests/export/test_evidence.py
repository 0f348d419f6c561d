"""Evidence from records that nothing was learnt from: the numbers by other means, the limits, and what follows."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ecgedge.bundle import load_bundle
from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime import OrtRunner, open_runner
from ecgedge.target import Gates
from ecgedge_export.agreement import AlarmAgreement
from ecgedge_export.compare import Comparison, OutputDifference
from ecgedge_export.evidence import Evidence, HeldOut, TaskEvidence, gather_evidence, refused_variants
from ecgedge_export.evidence import _judge as judge
from ecgedge_export.fold import masked_outputs
from ecgedge_export.pack import export_run
from ecgedge_export.targets import load_target, target_names
from ecgedge_export.variants import Source
from ecgedge_train.run import load_run

from .helpers import LENIENT

RECORDS = 60
"""More than the test split has: with 30 of them too few resamples hold every class, and no interval is given."""


@pytest.fixture(scope="module")
def exported(run_dir, ptbxl, tmp_path_factory):
    out = tmp_path_factory.mktemp("evidence") / "a.ecgb"
    export_run(
        run_dir, data=ptbxl, target="cpu", out=out, lead_sets=("I,II",), calibration_samples=32, gate_samples=32,
        gates=LENIENT, evidence_records=RECORDS,
    )  # fmt: skip
    return load_bundle(out)


@pytest.fixture(scope="module")
def held_rows(dataset):
    rows = dataset.select(split="test")
    assert dataset.presence(rows).all()
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(RECORDS, len(rows))).astype(int))]


def test_the_numbers_by_other_means(exported, run_dir, dataset, held_rows):
    evidence = json.loads(exported.read_bytes("evidence.json"))
    assert "evidence.json" in exported.manifest.files  # inside the id
    assert evidence["dataset_sha256"] == dataset.info.sha256
    assert (evidence["split"], evidence["records"]) == ("test", len(held_rows))
    assert evidence["patients"] == len(set(dataset.index["patient_id"][held_rows]))
    assert [(v["variant"], v["runner"]) for v in evidence["variants"]] == [
        (name, runner) for name in ("I,II/fp32", "I,II/int8") for runner in ("ort", "openvino")
    ]
    evidence["variants"] = [v for v in evidence["variants"] if v["runner"] == "ort"]
    ecg_mv = dataset.gather(held_rows)
    network = masked_outputs(load_run(run_dir).model, ecg_mv, ("I", "II"), None)
    whole = dataset.labels(dataset.info.classes, held_rows)
    known = ~np.isnan(whole).any(axis=1)  # a record without any class speaks of none
    columns = [c for c in range(whole.shape[1]) if set(whole[known, c]) == {0.0, 1.0}]
    assert len(columns) >= 3
    labels, truth = [dataset.info.classes[c] for c in columns], whole[known][:, columns]
    for found, variant in zip(evidence["variants"], exported.manifest.variants, strict=True):
        with open_runner(exported, variant) as runner:
            outputs = runner.run(np.ascontiguousarray(ecg_mv[:, :2]))
        for name, reference in network.items():
            assert found["max_abs"][name] == pytest.approx(
                np.abs(outputs[name] - reference).max(), rel=1e-3, abs=1e-8
            )
        mean = network["embedding"].mean(axis=0)
        cosines = [
            float(np.dot(a - mean, b - mean) / np.linalg.norm(a - mean) / np.linalg.norm(b - mean))
            for a, b in zip(network["embedding"], outputs["embedding"], strict=True)
        ]
        assert found["median_cosine"] == pytest.approx(np.median(cosines), abs=1e-5)
        assert found["min_cosine"] == pytest.approx(min(cosines), abs=1e-5)
        (task,) = found["tasks"]
        scores, before = (
            np.stack([side[f"p_{label}"][known] for label in labels], axis=1) for side in (outputs, network)
        )
        assert task["metric"] == "macro_auroc"
        assert task["variant"] == pytest.approx(roc_auc_score(truth, scores, average="macro"), abs=1e-9)
        assert task["network"] == pytest.approx(roc_auc_score(truth, before, average="macro"), abs=1e-9)
        assert task["difference"] == pytest.approx(task["variant"] - task["network"], abs=1e-12)
        assert task["low"] <= task["difference"] <= task["high"]
        assert found["alarms"] is None  # classes raise no alarm
        assert found["failed"] == []


def test_the_card_shows_it(exported):
    card = exported.read_bytes("card.md").decode()
    assert "## Evidence" in card
    records = json.loads(exported.read_bytes("evidence.json"))["records"]
    assert f"on {records} real records" in card
    assert "| I,II/int8 | ort |" in card
    assert "macro_auroc" in card
    assert "max_auroc_loss 0.5" in card


def test_a_variant_that_fails_is_not_packed(run_dir, ptbxl, tmp_path, monkeypatch):
    # The tune split lets INT8 pass; the test split's limit does not.
    monkeypatch.setattr("ecgedge_export.pack.TUNE_SHARE", 2.0 / 1e-4)
    strict = replace(LENIENT, max_abs=1e-4)
    options = {"data": ptbxl, "target": "cpu", "lead_sets": ("II",), "calibration_samples": 16, "gate_samples": 16,
               "evidence_records": 12, "gates": strict}  # fmt: skip
    with pytest.raises(EngineError, match=r"not packed: II/int8: \w+ differs by .*, allowed is 0\.0001"):
        export_run(run_dir, out=tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()
    export_run(run_dir, out=tmp_path / "b", failing="leave_out", **options)
    bundle = load_bundle(tmp_path / "b")
    assert [v.name for v in bundle.manifest.variants] == ["II/fp32"]
    assert not [name for name in bundle.manifest.files if "int8" in name]
    assert "NOT SERVED: " in bundle.read_bytes("card.md").decode()
    with open_runner(bundle, bundle.manifest.variants[0]):
        pass


def test_without_evidence_the_card_says_so(run_dir, ptbxl, tmp_path):
    export_run(
        run_dir, data=ptbxl, target="cpu", out=tmp_path / "b", lead_sets=("II",), precisions=("fp32",),
        gate_samples=16, evidence_records=0,
    )  # fmt: skip
    bundle = load_bundle(tmp_path / "b")
    assert "evidence.json" not in bundle.manifest.files
    assert "None was gathered" in bundle.read_bytes("card.md").decode()


def test_every_engine_has_its_row(exported, run_dir, dataset, held_rows):
    def two_threads(bundle, spec):
        return OrtRunner(bundle.read_bytes(spec.file), leads=spec.leads, precision=spec.precision, threads=2)

    def absent(bundle, spec):
        raise EngineError(f"{spec.name}: this engine cannot serve here")

    def not_installed(bundle, spec):
        raise UsageError("no such package here")

    source = Source(load_run(run_dir).model, None, None, 250.0)
    evidence = gather_evidence(
        exported, {("I", "II"): source}, HeldOut.of(dataset, held_rows[:8]), gates=LENIENT, left_out={},
        openers={"ort": open_runner, "ort, two threads": two_threads, "absent": absent,
                 "not installed": not_installed},
    )  # fmt: skip
    by_key = {(found.variant, found.runner): found for found in evidence.variants}
    assert len(by_key) == 6
    one, two = (by_key["I,II/fp32", engine] for engine in ("ort", "ort, two threads"))
    assert one.max_abs == pytest.approx(two.max_abs, abs=1e-5)
    assert by_key["I,II/int8", "absent"].failed == ("I,II/int8: this engine cannot serve here",)
    with pytest.raises(UsageError, match="no such package"):
        gather_evidence(
            exported, {("I", "II"): source}, HeldOut.of(dataset, held_rows[:8]), gates=LENIENT, left_out={},
            openers={"not installed": not_installed, "ort": open_runner},
        )  # fmt: skip
    assert refused_variants(evidence) == {}  # another engine's failure does not keep a variant out


GOOD = Comparison(
    {"p_gt_18": OutputDifference(0.01, 0.9)},
    min_cosine=0.98,
    gated_cosine=0.98,
    median_cosine=0.999,
    windows=5,
)
STRICT = Gates(
    max_abs=0.02, min_median_cosine=0.995, min_cosine=0.95, max_auroc_loss=0.01, min_alarm_agreement=0.8
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        (
            {"outputs": {**GOOD.outputs, "embedding": OutputDifference(5.0, 9.0)}},
            None,
        ),  # its cosine speaks for it
        (
            {"outputs": {"p_gt_18": OutputDifference(float("nan"), 0.9)}},
            "p_gt_18 differs by nan, allowed is 0.02",
        ),
        ({"outputs": {"p_gt_18": OutputDifference(0.03, 0.9)}}, "p_gt_18 differs by 0.03, allowed is 0.02"),
        (
            {"outputs": {"mpcwp_mmhg": OutputDifference(1.0, 40.0)}},
            "mpcwp_mmhg differs by 0.025, allowed is 0.02",
        ),
        ({"median_cosine": 0.99}, "the median centred cosine is 0.9900, the least is 0.995"),
        ({"gated_cosine": 0.9}, "the smallest centred cosine is 0.9000, the least is 0.95"),
        ({"median_cosine": float("nan")}, "the median centred cosine is nan, the least is 0.995"),
    ],
)
def test_each_limit(changes, reason):
    found = judge("II/int8", "ort", replace(GOOD, **changes), (), None, STRICT)
    assert found.failed == (() if reason is None else (reason,))


def test_limits_of_metrics_and_alarms():
    worse = TaskEvidence("auroc_gt_18", 0.80, 0.78, -0.02, -0.03, -0.01, 50)
    pressure = TaskEvidence("rmse_mmhg", 5.0, 5.5, 0.5, 0.4, 0.6, 50, baseline=6.0)
    alarms = AlarmAgreement(0.5, 0.9, 4, ())
    found = judge("II/int8", "ort", GOOD, (worse, pressure), alarms, STRICT)
    assert found.failed == (
        "auroc_gt_18 falls by 0.0200, allowed is 0.01",
        "alarms agree to 50%, the least is 80%",
    )
    better = replace(worse, difference=0.02)
    assert judge("II/int8", "ort", GOOD, (better,), replace(alarms, agreement=0.8), STRICT).failed == ()


def test_a_number_that_is_none_is_null_in_the_file():
    """Another engine may give one; it is not served there, and the file must still be JSON."""
    nothing = float("nan")
    bad = judge(
        "II/int8", "openvino", replace(GOOD, outputs={"p": OutputDifference(nothing, 1.0)}), (), None, STRICT
    )
    evidence = Evidence("d", "0" * 64, True, "test", 5, 5, STRICT, "", "ort", (bad,), {})
    [found] = json.loads(evidence.to_json())["variants"]
    assert found["max_abs"] == {"p": None}
    assert found["failed"] == ["p differs by nan, allowed is 0.02"]
    assert found["min_cosine"] == 0.98


@pytest.mark.parametrize("name", target_names())
def test_each_target_has_its_limits(name):
    gates = load_target(name).gates
    assert 0.0 < gates.max_abs < 1.0
    assert 0.9 <= gates.min_cosine <= gates.min_median_cosine < 1.0
    assert 0.0 < gates.max_auroc_loss <= 0.02
    assert 0.5 < gates.min_alarm_agreement <= 1.0
