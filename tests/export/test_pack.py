"""A run becomes a bundle that the device opens, tests and runs."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from importlib import metadata

import needs
import numpy as np
import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import ComponentType
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ecgedge.bundle import ResultRow, VariantSpec, load_bundle
from ecgedge.embedding import embedding_distance
from ecgedge.errors import BundleError, EngineError, UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge.runtime import OrtRunner, open_runner
from ecgedge.runtime.selftest import Expected
from ecgedge_export.calibration import HEADROOM, Calibration
from ecgedge_export.fold import masked_outputs
from ecgedge_export.int8 import Int8Options
from ecgedge_export.pack import export_run
from ecgedge_export.qat import FineTune
from ecgedge_export.variants import BuiltVariant, Windows, with_embedding
from ecgedge_train.calibrate import write_calibration
from ecgedge_train.checkpoint import save_tensors
from ecgedge_train.evaluate import LinearProbe, Report, write_report
from ecgedge_train.recipe import to_toml
from ecgedge_train.run import load_run

from .helpers import CALIBRATION, LENIENT, float_file


@pytest.fixture(scope="module")
def made(run_dir, ptbxl, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "classes.ecgb"
    row = ResultRow("PTB-XL", "I,II", "macro_auroc", 0.7, 0.6, 0.8, baseline=0.5, patients=10)
    elsewhere = replace(row, lead_set="V1")
    report = Report("t", False, "PTB-XL", "0" * 64, "", (row, elsewhere), ())
    write_report(report, [], tmp_path_factory.getbasetemp() / "report")
    bundle_id = export_run(
        run_dir,
        data=ptbxl,
        target="cpu",
        out=out,
        lead_sets=("12", "I,II", "II"),
        calibration_samples=32,
        gates=LENIENT,
        report=tmp_path_factory.getbasetemp() / "report",
    )
    return bundle_id, load_bundle(out)


@pytest.fixture(scope="module")
def hemodynamic_run(run_dir, hemodynamic_model, hemodynamic_recipe, tmp_path_factory):
    """A run directory with calibrated hemodynamic heads; its weights are random."""
    folder = tmp_path_factory.mktemp("runs") / "mpcwp"
    folder.mkdir()
    (folder / "recipe.toml").write_text(to_toml(hemodynamic_recipe))
    data = json.loads((run_dir / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**data, "simulated": True}))
    save_tensors(folder / "model.safetensors", hemodynamic_model.state_dict())
    write_calibration(folder, {"12": CALIBRATION, "I,II": replace(CALIBRATION, interval_halfwidth_mmhg=None)})
    return folder


def test_few_training_windows_say_nothing_of_embeddings(made):
    """32 of them, and embeddings of 32 numbers."""
    assert all(variant.embedding is None for variant in made[1].manifest.variants)


def test_a_variant_says_where_its_own_embeddings_lie(run_dir, dataset):
    """Of training windows; the bound lets all but the farthest of the tune windows pass."""
    onnx_bytes = float_file(run_dir).SerializeToString()
    spec = VariantSpec(("I", "II"), "fp32", "model.onnx", 1, 1, 1e-5)
    train, tune = (dataset.gather(dataset.select(split=split), np.int16) for split in ("train", "tune"))
    front_end = dataset.info.front_end
    windows = Windows(train, tune, tune[:4], front_end.lsb_mv, front_end.clip_mv)
    found = with_embedding(BuiltVariant(spec, onnx_bytes, Expected({}, {})), windows).spec
    assert replace(found, embedding=None) == spec
    envelope = found.embedding
    assert envelope.windows == len(train) > 64
    with OrtRunner(onnx_bytes, leads=("I", "II"), precision="fp32") as runner:
        seen, unseen = (runner.run(windows.to_mv(counts[:, :2]))["embedding"] for counts in (train, tune))
    np.testing.assert_allclose(envelope.mean, seen.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert (embedding_distance(envelope, unseen) > envelope.bound).sum() == 1
    assert np.median(embedding_distance(envelope, seen)) < envelope.bound


def test_contents(made):
    bundle_id, bundle = made
    assert bundle.id == bundle_id
    assert [v.name for v in bundle.manifest.variants] == [
        "12/fp32", "12/int8", "I,II/fp32", "I,II/int8", "II/fp32", "II/int8",
    ]  # fmt: skip
    assert set(bundle.manifest.files) == {
        *(f"variants/{leads}/{p}/model.onnx" for leads in ("12", "I_II", "II") for p in ("fp32", "int8")),
        "selftest.npz", "card.md", "sbom.json", "target.toml", "evidence.json",
    }  # fmt: skip
    assert bundle.manifest.window_s == 10.0
    assert bundle.manifest.target == "x86-cpu"
    assert not bundle.simulated
    assert [o.name for o in bundle.manifest.outputs] == [
        "p_NORM", "p_MI", "p_STTC", "p_CD", "p_HYP", "embedding",
    ]  # fmt: skip
    assert bundle.manifest.outputs[-1].size == 32


def test_every_variant_passes_its_self_test(made):
    _, bundle = made
    for variant in bundle.manifest.variants:
        with open_runner(bundle, variant) as runner:
            assert runner.name == variant.name


def test_the_device_gives_what_the_network_gives(made, run_dir, ecg_mv):
    _, bundle = made
    variant = next(v for v in bundle.manifest.variants if v.name == "I,II/fp32")
    expected = masked_outputs(load_run(run_dir).model, ecg_mv, ("I", "II"), None)
    with open_runner(bundle, variant) as runner:
        outputs = runner.run(ecg_mv[:, :2])
    for name, reference in expected.items():
        np.testing.assert_allclose(outputs[name], reference, atol=1e-5 * max(1, np.abs(reference).max()))


def test_tolerances_are_tight(made):
    """fp32 is held to rounding, INT8 to what was measured; a swapped pair of leads must fail either."""
    _, bundle = made
    for variant in bundle.manifest.variants:
        scale = max(1.0, variant.results["max_abs_difference_embedding"] * 100)
        assert variant.tolerance < (0.01 * scale if variant.precision == "fp32" else 5 * scale)
    int8 = next(v for v in bundle.manifest.variants if v.name == "I,II/int8")
    with open_runner(bundle, int8) as runner:
        run = runner.run
        runner.run = lambda ecg: run(np.ascontiguousarray(ecg[:, ::-1]))
        from ecgedge.runtime import self_test

        with pytest.raises(EngineError, match="differs from its reference"):
            self_test(runner, bundle)


def test_cost_and_results(made):
    _, bundle = made
    by_name = {v.name: v for v in bundle.manifest.variants}
    # Two leads have 10 x 16 x 17 stem weights fewer than twelve, each used at 1,250 places.
    assert by_name["12/fp32"].parameters - by_name["I,II/fp32"].parameters == 10 * 16 * 17
    assert by_name["12/fp32"].macs - by_name["I,II/fp32"].macs == 10 * 16 * 17 * 1250
    assert by_name["12/int8"].macs == by_name["12/fp32"].macs
    results = by_name["I,II/int8"].results
    assert (
        0.2
        < results["centred_cosine_min"]
        <= results["centred_cosine_gated"]
        <= results["centred_cosine_median"]
    )
    assert results["calibration_percentile"] == 100.0
    assert results["calibration_headroom"] in (1.0, HEADROOM)


def test_card(made):
    card = made[1].read_bytes("card.md").decode()
    assert "Research use only" in card
    assert "| PTB-XL | I,II | macro_auroc | 0.7 (0.6 to 0.8) | 0.5 | 10 |" in card
    assert "| V1 |" not in card  # the report has it, the bundle has not
    assert "SIMULATED" not in card
    assert "## Limits" in card
    assert "ptbxl" in card


def test_bill_of_materials(made):
    _, bundle = made
    text = bundle.read_bytes("sbom.json").decode()
    # The official schemas, offline; strict also refuses what they do not know.
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None
    bill = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    parsed = Bom.from_json(bill)  # and the official library makes a bill of it
    models = {c.name: c for c in parsed.components if c.type is ComponentType.MACHINE_LEARNING_MODEL}
    hashes = {name: next(iter(c.hashes)).content for name, c in models.items()}
    assert hashes == {n: h for n, h in bundle.manifest.files.items() if n.endswith("model.onnx")}
    packages = {c.name: c for c in parsed.components if c.type is ComponentType.LIBRARY}
    assert {"ecgedge", "onnxruntime", "numpy"} <= set(packages)
    assert "torch" not in packages
    for name, package in packages.items():
        assert package.version == metadata.version(name)
        assert package.licenses, name
    assert str(next(iter(packages["ecgedge"].licenses)).value) == "Apache-2.0"
    assert "BSD-3-Clause" in str(next(iter(packages["numpy"].licenses)).value)


def test_nothing_of_the_machine(made, run_dir, ptbxl):
    for name, content in made[1].contents.items():
        for path in (str(run_dir.parent), str(ptbxl.parent), os.getcwd(), os.path.expanduser("~") + "/"):
            assert path.encode() not in content, name


AGAIN = """
import json, sys
from pathlib import Path
from ecgedge_export.pack import export_run
from ecgedge.target import Gates
run, data, out, gates = sys.argv[1:]
print(export_run(run, data=data, target="cpu", out=Path(out), lead_sets=("II",), calibration_samples=16,
                 gate_samples=16, evidence_records=16, gates=Gates(**json.loads(gates))))
"""


def test_the_same_inputs_give_the_same_bundle_in_any_process(run_dir, ptbxl, tmp_path):
    """Hash seeds, clock, folder and packing differ; every byte of the bundle is the same."""
    few = {"calibration_samples": 16, "gate_samples": 16, "evidence_records": 16}
    one = tmp_path / "a.ecgb"
    here = export_run(run_dir, data=ptbxl, target="cpu", out=one, lead_sets=("II",), gates=LENIENT, **few)
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, run_dir, ptbxl, tmp_path / "b.ecgb.zip", json.dumps(asdict(LENIENT))],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "2", "TZ": "UTC-2"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    one, other = load_bundle(one), load_bundle(tmp_path / "b.ecgb.zip")
    assert done.stdout.split()[-1] == other.id == one.id == here
    assert one.contents == other.contents
    assert {v.name for v in one.manifest.variants} == {"II/fp32", "II/int8"}


def test_hemodynamics(hemodynamic_run, ptbxl, tmp_path):
    out = tmp_path / "b.ecgb"
    export_run(
        hemodynamic_run, data=ptbxl, target="cpu", out=out, lead_sets=("12", "I,II"), precisions=("fp32",)
    )
    bundle = load_bundle(out)
    twelve, two = bundle.manifest.variants
    assert (twelve.interval_halfwidth_mmhg, twelve.interval_coverage) == (6.5, 0.9)
    assert two.interval_halfwidth_mmhg is None
    assert [o.name for o in bundle.manifest.outputs] == ["p_gt_15", "p_gt_18", "mpcwp_mmhg", "embedding"]
    assert bundle.simulated
    card = bundle.read_bytes("card.md").decode()
    assert card.count("SIMULATED") >= 2
    assert "+-6.5 mmHg at 90%" in card
    assert "No evaluation was given" in card
    evidence = json.loads(bundle.read_bytes("evidence.json"))
    assert evidence["alarm_stream"].startswith("SIMULATED")
    for found in evidence["variants"]:
        # Rounding moves no alarm: the file and the network answer alike at every hop of the stream.
        assert found["alarms"]["agreement"] == found["alarms"]["state_agreement"] == 1.0
        assert found["tasks"] == []  # these recordings carry no pressure
    assert "100% of" in card


def test_without_calibration(hemodynamic_run, ptbxl, tmp_path):
    with pytest.raises(EngineError, match="no calibration for the lead set V1; it has: 12; I,II"):
        export_run(hemodynamic_run, data=ptbxl, target="cpu", out=tmp_path / "b", lead_sets=("V1",))


def test_probe(hemodynamic_run, hemodynamic_model, ptbxl, ecg_mv, tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype(np.float32) for s in (32, 32, (1, 32), 1)]
    arrays[1] = np.abs(arrays[1]) + np.float32(1)
    probe = LinearProbe(("AF",), *arrays, strength=1.0)
    probe.to_files(tmp_path / "report" / "probe" / "12")
    row = ResultRow("test", "12", "macro_auroc", 0.9, 0.8, 0.95, 0.5, 10)
    write_report(Report("t", False, "test", "0" * 64, "", (row,), ()), [], tmp_path / "report")
    out = tmp_path / "b.ecgb"
    export_run(
        hemodynamic_run, data=ptbxl, target="cpu", out=out, lead_sets=("12",), precisions=("fp32",),
        report=tmp_path / "report", evidence_records=0,
    )  # fmt: skip
    bundle = load_bundle(out)
    assert bundle.manifest.results == (row,)
    whole = export_run(
        hemodynamic_run, data=ptbxl, target="cpu", out=tmp_path / "by_report", precisions=("fp32",),
        report=tmp_path / "report", evidence_records=0,
    )  # fmt: skip
    assert whole == bundle.id  # without lead sets, those of the report's probes
    embedding = masked_outputs(hemodynamic_model, ecg_mv[:4], STANDARD_LEADS, CALIBRATION)["embedding"]
    with open_runner(bundle, bundle.manifest.variants[0]) as runner:
        np.testing.assert_allclose(runner.run(ecg_mv[:4])["p_AF"], probe.predict(embedding)[:, 0], atol=1e-5)


def test_a_report_without_a_probe_for_a_lead_set(hemodynamic_run, ptbxl, tmp_path):
    zeros = [np.zeros(s, np.float32) for s in (32, 32, (1, 32), 1)]
    LinearProbe(("AF",), *zeros, strength=1.0).to_files(tmp_path / "probe" / "12")
    with pytest.raises(EngineError, match="no probe for lead set I,II"):
        export_run(
            hemodynamic_run,
            data=ptbxl,
            target="cpu",
            out=tmp_path / "b",
            lead_sets=("12", "I,II"),
            report=tmp_path,
        )


def test_poor_int8(run_dir, ptbxl, tmp_path):
    options = {"data": ptbxl, "target": "cpu", "lead_sets": ("II",), "calibration_samples": 16}
    impossible = replace(LENIENT, min_cosine=1.1)
    options["int8_options"] = Int8Options(max_float_stages=1, fine_tuning=FineTune(steps=1, batch=2))
    with pytest.raises(EngineError, match="leave int8 out for this lead set"):
        export_run(run_dir, out=tmp_path / "a", gates=impossible, **options)
    assert not (tmp_path / "a").exists()
    only_fp32 = replace(LENIENT, min_median_cosine=0.99999, max_abs=1e-4)
    export_run(run_dir, out=tmp_path / "b", gates=only_fp32, failing="leave_out", **options)
    assert [v.name for v in load_bundle(tmp_path / "b").manifest.variants] == ["II/fp32"]


def test_what_was_left_out_is_told_and_a_bundle_of_nothing_refused(run_dir, ptbxl, tmp_path):
    options = {
        "data": ptbxl, "target": "cpu", "lead_sets": ("II",), "calibration_samples": 16, "gate_samples": 8,
        "gates": replace(LENIENT, min_cosine=1.1), "failing": "leave_out", "evidence_records": 0,
        "int8_options": Int8Options(max_float_stages=0, fine_tuning=None),
    }  # fmt: skip
    with pytest.raises(
        EngineError, match=r"nothing to pack: II/int8 did not pass its gate .*--precision fp32"
    ):
        export_run(run_dir, out=tmp_path / "a", precisions=("int8",), **options)
    assert not (tmp_path / "a").exists()
    export_run(run_dir, out=tmp_path / "b", precisions=("fp32", "int8"), **options)
    card = load_bundle(tmp_path / "b").read_bytes("card.md").decode()
    assert "None was gathered" in card
    assert "Left out before: II/int8: did not pass its gate on the tune split." in card


def test_fp16_that_fails_is_refused_or_left_out_too(run_dir, ptbxl, tmp_path, monkeypatch):
    monkeypatch.setattr("ecgedge_export.variants.FP16_MIN_COSINE", 1.1)
    options = {
        "data": ptbxl, "target": "cpu", "lead_sets": ("II",), "gate_samples": 8, "precisions": ("fp32", "fp16"),
        "evidence_records": 8,
    }  # fmt: skip
    with pytest.raises(EngineError, match="leave fp16 out for this lead set"):
        export_run(run_dir, out=tmp_path / "a", **options)
    export_run(run_dir, out=tmp_path / "b", failing="leave_out", **options)
    bundle = load_bundle(tmp_path / "b")
    assert [v.name for v in bundle.manifest.variants] == ["II/fp32"]
    assert list(json.loads(bundle.read_bytes("evidence.json"))["left_out"]) == ["II/fp16"]


def test_what_was_done_for_int8_stands_on_the_card(run_dir, ptbxl, tmp_path):
    options = Int8Options(calibration=Calibration("percentile", percentile=99.9), float_layers=("stem",))
    export_run(
        run_dir, data=ptbxl, target="cpu", out=tmp_path / "a", lead_sets=("II",), calibration_samples=16,
        gate_samples=8, precisions=("fp16", "int8"), gates=LENIENT, int8_options=options,
    )  # fmt: skip
    bundle = load_bundle(tmp_path / "a")
    half, int8 = bundle.manifest.variants
    assert (half.name, int8.name) == ("II/fp16", "II/int8")
    assert int8.results["float_layer stem"] == 1.0
    assert int8.results["calibration_percentile"] == 99.9
    assert {int8.results["calibration_headroom"], int8.results["forms_refused_before"]} <= {
        0.0,
        1.0,
        HEADROOM,
    }
    assert "; float_layer stem 1; " in bundle.read_bytes("card.md").decode()
    assert half.results["centred_cosine_min"] > 0.999
    for variant in (half, int8):
        with open_runner(bundle, variant) as runner:
            assert runner.precision == variant.precision


def test_rtx_engines(run_dir, ptbxl, tmp_path):
    needs.tensorrt_rtx()
    options = {"data": ptbxl, "target": "rtx", "lead_sets": ("I,II",), "calibration_samples": 32}
    with_engines = export_run(run_dir, out=tmp_path / "a.ecgb", gates=LENIENT, **options)
    bundle = load_bundle(tmp_path / "a.ecgb")
    assert [(r.onnx_file, r.runtime) for r in bundle.engines] == [
        ("variants/I_II/fp32/model.onnx", "tensorrt_rtx"),
        ("variants/I_II/int8/model.onnx", "tensorrt_rtx"),
    ]
    assert (
        export_run(run_dir, out=tmp_path / "b.ecgb", gates=LENIENT, engines=False, **options) == with_engines
    )


def test_refusals(run_dir, ptbxl, tmp_path):
    with pytest.raises(BundleError, match="exists already"):
        export_run(run_dir, data=ptbxl, target="cpu", out=tmp_path)
    with pytest.raises(UsageError, match="unknown target"):
        export_run(run_dir, data=ptbxl, target="tpu", out=tmp_path / "b")


def test_other_data(run_dir, ptbxl, tmp_path):
    other = tmp_path / "run"
    other.mkdir()
    for name in ("recipe.toml", "model.safetensors"):
        (other / name).write_bytes((run_dir / name).read_bytes())
    data = json.loads((run_dir / "data.json").read_text())
    (other / "data.json").write_text(json.dumps({**data, "sha256": "0" * 64}))
    with pytest.raises(EngineError, match="give the data set of the training"):
        export_run(other, data=ptbxl, target="cpu", out=tmp_path / "b")
