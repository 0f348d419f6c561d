"""Whatever the batch, every window gets the answer that it gets alone, and the engine meets the sizes only."""

import numpy as np
import pytest
from hand_made import T, mean_model
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import load_bundle
from ecgedge.errors import EngineError
from ecgedge.runtime import BucketRunner, OrtRunner, open_runner

LEADS = ("I", "II")


class Watched(OrtRunner):
    """Remembers the batch sizes that the engine met."""

    def __init__(self, *arguments, **options):
        self.met = []
        super().__init__(*arguments, **options)

    def run(self, ecg_mv):
        self.met.append(len(ecg_mv))
        return super().run(ecg_mv)


def watched(sizes=(1, 4, 16)):
    runner = Watched(mean_model(), leads=LEADS, precision="fp32")
    return runner, BucketRunner(runner, sizes=sizes)


@pytest.fixture(scope="module", params=["ort", "openvino"])
def embedded(request):
    bundle = load_bundle("embedded")
    variant = bundle.manifest.variants[-1]
    with (
        open_runner(bundle, variant, runtime=request.param) as alone,
        BucketRunner(open_runner(bundle, variant, runtime=request.param), sizes=(1, 4, 16)) as buckets,
    ):
        yield alone, buckets


@settings(max_examples=25)
@given(n=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_every_window_gets_the_answer_it_gets_alone(embedded, n, seed):
    alone, buckets = embedded
    ecg = np.random.default_rng(seed).normal(0.0, 0.5, (n, 1, 2500)).astype(np.float32)
    together = buckets.run(ecg)
    for k in range(n):
        single = alone.run(ecg[k : k + 1])
        assert list(together) == list(single)
        for name, values in single.items():
            np.testing.assert_array_equal(together[name][k], values[0])


@settings(max_examples=60)
@given(
    batches=st.lists(st.integers(1, 50), max_size=8),
    sizes=st.sets(st.integers(1, 20), min_size=1, max_size=4),
)
def test_the_engine_meets_only_the_sizes(batches, sizes):
    runner, buckets = watched(tuple(sizes))
    assert buckets.sizes == tuple(sorted(sizes))
    assert set(runner.met) == {1, *sizes}  # the runner's own warm-up is a batch of 1
    runner.met.clear()
    ecg = np.random.default_rng(0).normal(size=(50, 2, 1, T)).astype(np.float32)
    for n in batches:
        outputs = buckets.run(ecg[:n])
        np.testing.assert_allclose(outputs["embedding"], ecg[:n, :, 0].mean(axis=2), atol=1e-6)
        assert outputs["p_gt_18"].shape == (n,)
    assert set(runner.met) <= sizes


def test_an_earlier_batch_leaves_nothing_behind():
    _, buckets = watched((4,))
    kept = buckets.run(np.ones((3, 2, T), np.float32))["embedding"]
    with pytest.raises(EngineError, match="not finite"):
        buckets.run(np.full((3, 2, T), np.nan, np.float32))
    np.testing.assert_array_equal(buckets.run(np.zeros((1, 2, T), np.float32))["embedding"], [[0.0, 0.0]])
    np.testing.assert_array_equal(kept, np.ones((3, 2)))


def test_is_a_runner_itself():
    runner, buckets = watched()
    assert (buckets.name, buckets.leads, buckets.precision) == ("I,II/fp32", LEADS, "fp32")
    assert buckets.window_samples == T
    with buckets as entered:
        assert entered is buckets
    with pytest.raises(EngineError, match="closed"):
        runner.run(np.zeros((1, 2, T), np.float32))


@pytest.mark.parametrize("sizes", [(), (0,), (4, -1)])
def test_sizes_that_cannot_be(sizes):
    runner = OrtRunner(mean_model(), leads=LEADS, precision="fp32")
    with pytest.raises(EngineError, match="at least 1"):
        BucketRunner(runner, sizes=sizes)


@pytest.mark.parametrize("shape", [(0, 2, T), (2, T), (1, 3, T)])
def test_wrong_input(shape):
    _, buckets = watched()
    with pytest.raises(EngineError, match="shape"):
        buckets.run(np.zeros(shape, np.float32))
