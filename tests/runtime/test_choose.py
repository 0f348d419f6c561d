"""One name chooses the engine; every engine passes the self-test; auto goes on where one cannot serve."""

import builtins

import pytest
from hand_made import make_bundle

from ecgedge.bundle import load_bundle
from ecgedge.errors import BundleError, EngineError, UsageError
from ecgedge.runtime import RUNTIMES, OpenVinoRunner, OrtRunner, choose, open_on, open_runner
from ecgedge.stream import Variants


@pytest.fixture
def bundle():
    return load_bundle("embedded")


@pytest.fixture
def hide(monkeypatch):
    """Make packages look as if they were not installed."""
    real = builtins.__import__

    def hide(*packages):
        def without(name, *args, **kwargs):
            if name.partition(".")[0] in packages:
                raise ModuleNotFoundError(name, name=name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)

    return hide


@pytest.mark.parametrize(
    ("runtime", "kind"), [("ort", OrtRunner), ("openvino", OpenVinoRunner), ("auto", OrtRunner)]
)
def test_by_name(bundle, runtime, kind):
    with open_runner(bundle, bundle.manifest.variants[-1], runtime=runtime) as runner:
        assert isinstance(runner, kind)


def test_an_unknown_name_lists_the_known_ones(bundle):
    with pytest.raises(UsageError, match=r"'trt' is not known; choose one of auto, tensorrt, ort, "):
        open_runner(bundle, bundle.manifest.variants[0], runtime="trt")
    assert set(RUNTIMES) == {"auto", *choose.OPENERS}


def test_auto_takes_what_is_installed(bundle, hide):
    hide("onnxruntime")
    opened = open_on(bundle, bundle.manifest.variants[-1])
    with opened.runner as runner:
        assert isinstance(runner, OpenVinoRunner)
    assert (opened.runtime, opened.refused) == ("openvino", ())


def test_nothing_installed_names_the_first_extra(bundle, hide):
    hide("onnxruntime", "openvino")
    with pytest.raises(UsageError, match=r"ecgedge\[ort\]"):
        open_runner(bundle, bundle.manifest.variants[0])


def test_a_runtime_that_was_asked_for_is_not_replaced(bundle, hide):
    hide("openvino")
    with pytest.raises(UsageError, match=r"ecgedge\[openvino\]"):
        open_runner(bundle, bundle.manifest.variants[0], runtime="openvino")


class _Wrong(OrtRunner):
    """An engine that computes something else, as a miscompiled kernel would."""

    closed = 0

    def run(self, ecg_mv):
        return {name: values + 0.5 for name, values in super().run(ecg_mv).items()}

    def close(self):
        type(self).closed += 1
        super().close()


def test_auto_goes_past_an_engine_that_fails_the_self_test(bundle, monkeypatch):
    monkeypatch.setattr(choose, "OrtRunner", _Wrong)
    monkeypatch.setattr(_Wrong, "closed", 0)
    opened = open_on(bundle, bundle.manifest.variants[-1])
    with opened.runner as runner:
        assert isinstance(runner, OpenVinoRunner)
    assert len(opened.refused) == 1
    assert "self-test of II/fp32" in opened.refused[0]
    assert _Wrong.closed == 1
    with Variants(bundle) as variants:
        assert set(variants.runtimes.values()) == {"openvino"}
        assert len(variants.refused) == len(bundle.manifest.variants)


def test_auto_says_all_reasons_if_none_can_serve(tmp_path):
    bundle, variant = make_bundle(tmp_path / "b.ecgb", scale=1.01)
    with pytest.raises(EngineError, match=r"self-test of I,II/fp32.*; self-test of I,II/fp32"):
        open_runner(bundle, variant)


def test_what_is_open_already_is_closed_where_the_rest_breaks_off(bundle, monkeypatch):
    opened = []

    def open_on(bundle, variant, **options):
        if opened:
            raise BundleError("the file is gone")
        opened.append(_Wrong.from_variant(bundle, variant))
        return choose.Opened(opened[0], "ort")

    monkeypatch.setattr("ecgedge.stream.variants.open_on", open_on)
    monkeypatch.setattr(_Wrong, "closed", 0)
    with pytest.raises(BundleError, match="the file is gone"):
        Variants(bundle)
    assert _Wrong.closed == 1


def test_variants_on_a_runtime(bundle):
    with Variants(bundle, runtime="openvino") as variants:
        spec, runner = variants.choose({"I", "II"})
        assert isinstance(runner, OpenVinoRunner)
        assert variants.runtimes[spec.name] == "openvino"
    with pytest.raises(UsageError, match="has no CUDAExecutionProvider"):
        Variants(bundle, runtime="ort-cuda")
