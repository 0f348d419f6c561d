"""The streaming runner, on a hand-made model whose answers are known: means over the last samples of a bed."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made import KEPT, STREAM, C, stream_means, stream_model
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import VariantSpec
from ecgedge.errors import EngineError
from ecgedge.runtime import StepRunner
from ecgedge.runtime.step import BUCKETS, FULL_ENOUGH, plan_batches

LEADS = ("I", "II")
VARIANT = VariantSpec(LEADS, "fp32", "model.onnx", 0, 0, 1e-5, stream=STREAM)
RATE_HZ = 80.0
"""With reprime_s: every tenth chunk."""


MODEL = stream_model()


def noise(n, seed=0):
    return np.random.default_rng(seed).normal(size=(2, n)).astype(np.float32)


def test_one_bed():
    stream = noise(10 * C)
    with StepRunner(MODEL, VARIANT, beds=1) as runner:
        assert runner.name == "I,II/fp32/stream"
        assert runner.output_names == ("p", "embedding")
        for k, known in enumerate(stream_means(stream)):
            outputs = runner.step([0], stream[None, :, k * C : (k + 1) * C])
            np.testing.assert_allclose(outputs["embedding"], known[None], atol=1e-6)
            np.testing.assert_allclose(outputs["p"], [known.mean()], atol=1e-6)
            assert runner.seen_samples(0) == (k + 1) * C
            assert runner.ready(0) == (k >= 2)


def test_batches():
    assert plan_batches(1) == [(1, 1)]
    assert plan_batches(3) == [(4, 3)]
    assert plan_batches(5) == [(4, 4), (1, 1)]
    assert plan_batches(16) == [(16, 16)]
    assert plan_batches(70) == [(64, 64), (4, 4), (1, 1), (1, 1)]


@given(n=st.integers(1, 300))
def test_every_bed_is_in_one_batch(n):
    batches = plan_batches(n)
    assert sum(used for _, used in batches) == n
    assert all(size in BUCKETS and FULL_ENOUGH * size <= used <= size for size, used in batches)


@st.composite
def stories(draw):
    """What happens to up to 20 beds: (kind, beds or bed, chunks)."""
    beds = draw(st.integers(1, 20))
    one = st.integers(0, beds - 1)
    step = st.tuples(st.just("step"), st.permutations(range(beds)), st.integers(1, beds))
    reset = st.tuples(st.just("reset"), one, st.just(0))
    prime = st.tuples(st.just("prime"), one, st.integers(1, 5))
    return beds, draw(st.lists(st.one_of(step, step, reset, prime), min_size=1, max_size=25))


@given(story=stories(), seed=st.integers(0, 2**31))
@settings(max_examples=40)
def test_any_order_of_beds_steps_resets_and_primes(story, seed):
    """Each bed gives what its own samples say, whoever else was in the batch."""
    n_beds, events = story
    rng = np.random.default_rng(seed)
    told = [np.zeros((2, 0), np.float32) for _ in range(n_beds)]
    with StepRunner(MODEL, VARIANT, beds=n_beds) as runner:
        for kind, who, n in events:
            if kind == "reset":
                runner.reset(who)
                told[who] = told[who][:, :0]
                continue
            if kind == "prime":
                told[who] = rng.normal(size=(2, n * C)).astype(np.float32)
                outputs, beds = runner.prime(who, told[who]), [who]
            else:
                beds = who[:n]
                chunk = rng.normal(size=(n, 2, C)).astype(np.float32)
                for bed, samples in zip(beds, chunk, strict=True):
                    told[bed] = np.concatenate([told[bed], samples], axis=1)
                outputs = runner.step(beds, chunk)
            for row, bed in enumerate(beds):
                np.testing.assert_allclose(outputs["embedding"][row], stream_means(told[bed])[-1], atol=1e-5)
                assert runner.seen_samples(bed) == told[bed].shape[1]


@pytest.mark.parametrize(
    ("beds", "chunk", "message"),
    [
        (
            [0],
            np.zeros((1, 2, C - 1), np.float32),
            r"takes exactly 8 samples a step, \(1, 2, 8\). Beds collect them",
        ),
        ([0], np.zeros((1, 2, 2 * C), np.float32), "takes exactly 8 samples"),
        ([0, 1], np.zeros((1, 2, C), np.float32), r"\(2, 2, 8\)"),
        ([0], np.zeros((1, 2, C)), "float64; give float32"),
        ([0, 0], np.zeros((2, 2, C), np.float32), "name each bed once"),
        ([], np.zeros((0, 2, C), np.float32), "at least one"),
        ([2], np.zeros((1, 2, C), np.float32), "numbered 0 to 1"),
        ([0.5], np.zeros((1, 2, C), np.float32), "whole numbers"),
        ([-1], np.zeros((1, 2, C), np.float32), "numbered 0 to 1"),
        ([1, 0], np.array([np.zeros((2, C)), np.full((2, C), np.nan)], np.float32), r"rows \[1\] .* NaN"),
    ],
)
def test_a_refused_step_changes_nothing(beds, chunk, message):
    stream = noise(3 * C)
    with StepRunner(MODEL, VARIANT, beds=2) as runner:
        for k in range(2):
            runner.step([0, 1], np.stack([stream[:, k * C : (k + 1) * C]] * 2))
        with pytest.raises(EngineError, match=message):
            runner.step(beds, chunk)
        outputs = runner.step([1, 0], np.stack([stream[:, 2 * C :]] * 2))
    np.testing.assert_allclose(outputs["embedding"], [stream_means(stream)[-1]] * 2, atol=1e-6)


@pytest.mark.parametrize("n", [0, 3, C + 1])
def test_prime_takes_whole_chunks(n):
    with StepRunner(MODEL, VARIANT, beds=1) as runner, pytest.raises(EngineError, match="multiple of 8"):
        runner.prime(0, np.zeros((2, n), np.float32))


def test_an_output_that_is_no_number_leaves_the_state():
    """The mean of numbers near the end of float32 overflows."""
    stream = noise(2 * C)
    with StepRunner(MODEL, VARIANT, beds=1) as runner:
        runner.step([0], stream[None, :, :C])
        with pytest.raises(EngineError, match="not finite"):
            runner.step([0], np.full((1, 2, C), 3e38, np.float32))
        outputs = runner.step([0], stream[None, :, C:])
    np.testing.assert_allclose(outputs["embedding"][0], stream_means(stream)[-1], atol=1e-6)


def test_a_pool_that_steps_whole_says_what_its_beds_say_alone():
    streams = np.stack([noise(3 * C, seed) for seed in range(4)])
    with StepRunner(MODEL, VARIANT, beds=4) as whole, StepRunner(MODEL, VARIANT, beds=5) as part:
        for begin in range(0, 3 * C, C):
            chunk = np.ascontiguousarray(streams[:, :, begin : begin + C])
            said = whole.step(range(4), chunk)["embedding"]
            alone = part.step([4, 2, 1, 0], chunk[[0, 2, 1, 3]])["embedding"][[0, 2, 1, 3]]
            np.testing.assert_allclose(said, alone, atol=1e-6)
        for state, other in zip(whole.states, part.states, strict=True):
            np.testing.assert_array_equal(state, other[:, [4, 1, 2, 0]])


def test_closed():
    runner = StepRunner(MODEL, VARIANT, beds=1)
    runner.close()
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.step([0], np.zeros((1, 2, C), np.float32))


@pytest.mark.parametrize(
    "model",
    [stream_model(chunk=C + 1), stream_model(kept=KEPT - 1), stream_model(state="past")],
    ids=["chunk", "state's shape", "state's name"],
)
def test_another_model_than_the_manifest_tells_of(model):
    with pytest.raises(EngineError, match="not the streaming form that the manifest tells of"):
        StepRunner(model, VARIANT, beds=1)


def test_a_window_that_is_not_made_of_whole_chunks():
    uneven = replace(VARIANT, stream=replace(STREAM, exact_after_samples=25))
    with pytest.raises(EngineError, match="not the streaming form that the manifest tells of"):
        StepRunner(MODEL, uneven, beds=1)


def test_what_onnx_runtime_raises_while_running_is_an_engine_error():
    with StepRunner(MODEL, VARIANT, beds=1) as runner:
        (bucket,) = runner._buckets.values()
        bucket._binding.clear_binding_inputs()
        with pytest.raises(EngineError, match=r"could not run a batch of 1: .*ecgedge bundle verify"):
            runner.step([0], noise(C)[None])


def test_a_window_form_is_no_streaming_form():
    window = VariantSpec(LEADS, "fp32", "model.onnx", 0, 0, 1e-5)
    with pytest.raises(EngineError, match=r"I,II/fp32 is a window form; open it with .*open_runner"):
        StepRunner(MODEL, window, beds=1)
    with pytest.raises(EngineError, match="0 beds"):
        StepRunner(MODEL, VARIANT, beds=0)


def test_beds_that_are_added_are_new_and_the_others_keep_their_states():
    stream = noise(3 * C)
    with StepRunner(MODEL, VARIANT, beds=1) as runner:
        runner.step([0], stream[None, :, :C])
        runner.grow(70)
        assert runner.beds == 71
        runner.step([0], stream[None, :, C : 2 * C])
        both = runner.step([0, 70], np.stack([stream[:, 2 * C :], stream[:, :C]]))["embedding"]
    known = stream_means(stream)
    np.testing.assert_allclose(both, [known[2], known[0]], atol=1e-6)


def test_a_model_whose_last_bits_depend_on_the_place_in_the_batch_is_found():
    """This one adds up by a reduction, which begins where memory is aligned. Exported ones pool instead."""
    with StepRunner(MODEL, VARIANT, beds=64) as runner:
        assert not runner.sizes_agree()
    with StepRunner(MODEL, VARIANT, beds=1) as runner:
        assert runner.sizes_agree()
