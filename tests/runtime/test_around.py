"""What is said beside a model's outputs: the embedding's distance, and how far outputs move under small noise."""

import numpy as np
import pytest

from ecgedge.bundle import FrontEndSpec
from ecgedge.ecg import Recording
from ecgedge.embedding import embedding_distance, fit_envelope
from ecgedge.errors import EngineError
from ecgedge.runtime import DISTANCE, MOVEMENT, WithDistance, WithMovement, open_runner
from ecgedge.signal import condition, counts_to_mv
from ecgedge.sim import Simulator


@pytest.fixture(scope="module")
def runner(bundle):
    """The embedded bundle's model of leads I and II."""
    spec = next(v for v in bundle.manifest.variants if v.leads == ("I", "II"))
    with open_runner(bundle, spec, runtime="ort") as opened:
        yield opened


@pytest.fixture(scope="module")
def windows():
    recording = Recording(
        Simulator("stable", seed=3, rate_hz=250.0).read(30_000)[:2], 250.0, ("I", "II"), "patient 3"
    )
    ecg_mv = counts_to_mv(condition(recording, FrontEndSpec()).counts, FrontEndSpec())
    return np.ascontiguousarray(ecg_mv.reshape(2, 12, 2500).transpose(1, 0, 2))


def test_the_distance_is_that_of_its_embedding(runner, windows):
    plain = runner.run(windows)
    spread = plain["embedding"].std()
    rng = np.random.default_rng(0)
    training = plain["embedding"][rng.integers(0, 12, 400)] + rng.normal(0.0, spread, (400, 128)).astype(
        np.float32
    )
    envelope = fit_envelope(training, training[:50])
    said = WithDistance(runner, envelope).run(windows)
    assert set(said) == {*plain, DISTANCE}
    assert (
        said[DISTANCE].tolist()
        == embedding_distance(envelope, plain["embedding"]).astype(np.float32).tolist()
    )
    for name, values in plain.items():
        assert (said[name] == values).all()


def test_movement_is_the_spread_over_its_own_noise(runner, windows):
    """Recomputed from the noise; the same for every window, and from one opening to the next."""
    around = WithMovement(runner, rms_mv=0.02, draws=3)
    said = around.run(windows)
    assert around._noise_mv.std() == pytest.approx(0.02, rel=0.03)
    moved = [runner.run(windows + noise)["mpcwp_mmhg"] for noise in around._noise_mv]
    np.testing.assert_allclose(said["mpcwp_mmhg" + MOVEMENT], np.std(moved, axis=0), rtol=1e-4)
    again = WithMovement(runner, rms_mv=0.02, draws=3).run(windows)
    assert {name: values.tolist() for name, values in said.items()} == {
        n: v.tolist() for n, v in again.items()
    }
    assert "embedding" + MOVEMENT not in said


def test_more_noise_moves_outputs_more(runner, windows):
    small, large = (WithMovement(runner, rms_mv=rms_mv).run(windows) for rms_mv in (0.01, 0.1))
    assert (large["p_gt_18" + MOVEMENT] > small["p_gt_18" + MOVEMENT]).all()


def test_it_is_the_runner_to_all_others_and_closes_it(bundle):
    runner = open_runner(bundle, bundle.manifest.variants[0], runtime="ort")
    with WithMovement(runner) as around:
        assert (around.name, around.leads, around.precision) == (runner.name, runner.leads, runner.precision)
        assert around.window_samples == runner.window_samples
    with pytest.raises(EngineError, match="closed"):
        runner.run(np.zeros((1, 12, 2500), np.float32))
