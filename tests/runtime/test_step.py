"""The streaming runner, on a hand-made model whose answers are known: means over the last samples of a bed."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made import KEPT, STREAM, C, stream_means, stream_model
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.bundle import VariantSpec
from ecgedge.errors import EngineError
from ecgedge.runtime import StepFeeder, StepRunner
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
            r"takes exactly 8 samples a step, \(1, 2, 8\). Collect them",
        ),
        ([0], np.zeros((1, 2, 2 * C), np.float32), "takes exactly 8 samples"),
        ([0, 1], np.zeros((1, 2, C), np.float32), r"\(2, 2, 8\)"),
        ([0], np.zeros((1, 2, C)), "float64; give float32"),
        ([0, 0], np.zeros((2, 2, C), np.float32), "name each bed once"),
        ([], np.zeros((0, 2, C), np.float32), "at least one"),
        ([2], np.zeros((1, 2, C), np.float32), "numbered 0 to 1"),
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


@given(data=st.data(), n_beds=st.integers(1, 6), seed=st.integers(0, 2**31))
@settings(max_examples=30)
def test_chunking_never_matters(data, n_beds, seed):
    """Any pieces, of any beds together: each bed's answers are those of its samples, re-primes included."""
    rng = np.random.default_rng(seed)
    streams = [rng.normal(size=(2, data.draw(st.integers(0, 300)))).astype(np.float32) for _ in range(n_beds)]
    given_until = [0] * n_beds
    answers = {bed: [] for bed in range(n_beds)}
    with StepRunner(MODEL, VARIANT, beds=n_beds) as runner:
        feeder = StepFeeder(runner, rate_hz=RATE_HZ)
        while any(done < s.shape[1] for done, s in zip(given_until, streams, strict=True)):
            pieces = {}
            for bed, stream in enumerate(streams):
                n = data.draw(st.integers(0, 90))
                pieces[bed] = stream[:, given_until[bed] : given_until[bed] + n]
                given_until[bed] += pieces[bed].shape[1]
            for answer in feeder.push(pieces):
                answers[answer.bed].append(answer)
    for bed, stream in enumerate(streams):
        known = stream_means(stream)
        assert [a.end_sample for a in answers[bed]] == [C * (k + 1) for k in range(len(known))]
        assert [a.ready for a in answers[bed]] == [C * (k + 1) >= 24 for k in range(len(known))]
        for answer, mean in zip(answers[bed], known, strict=True):
            np.testing.assert_allclose(answer.outputs["embedding"], mean, atol=1e-5)


def test_a_damaged_state_is_gone_after_a_prime():
    """A wrong bit in a state that never leaves by itself: the next prime ends it."""
    stream = noise(40 * C)
    with StepRunner(MODEL, VARIANT, beds=1) as runner:
        feeder = StepFeeder(runner, rate_hz=RATE_HZ)
        primes = []
        prime = runner.prime
        runner.prime = lambda bed, samples: primes.append(runner.seen_samples(bed)) or prime(bed, samples)
        for k in range(40):
            if k == 12:
                runner._states[0][...] = 7.0
            [answer] = feeder.push({0: stream[:, k * C : (k + 1) * C]})
            wrong = (
                np.abs(answer.outputs["embedding"] - stream_means(stream[:, : (k + 1) * C])[-1]).max() > 1e-5
            )
            assert wrong == (k in (12, 13))
    assert len(primes) == 4  # after chunks 10, 20, 30, 40


def test_a_failed_prime_lets_its_beds_begin_anew():
    stream = noise(4 * C)
    with StepRunner(MODEL, VARIANT, beds=2) as runner:
        feeder = StepFeeder(runner, rate_hz=RATE_HZ)
        prime = runner.prime
        runner.prime = lambda bed, samples: prime(bed, np.full_like(samples, 3e38))
        with pytest.raises(EngineError, match="not finite"):
            feeder.push({bed: noise(10 * C + 3, seed=bed) for bed in range(2)})
        assert [runner.seen_samples(bed) for bed in range(2)] == [0, 0]
        answers = feeder.push({0: stream})
    np.testing.assert_allclose([a.outputs["embedding"] for a in answers], stream_means(stream), atol=1e-6)


def test_one_bed_is_primed_at_a_time():
    with StepRunner(MODEL, VARIANT, beds=3) as runner:
        feeder = StepFeeder(runner, rate_hz=RATE_HZ)
        primed = []
        runner.prime = lambda bed, _: primed.append((pushes[-1], bed))
        pushes = []
        for k in range(25):
            pushes.append(k)
            feeder.push({bed: noise(C) for bed in range(3)})
    assert primed == [(9, 0), (10, 1), (11, 2), (19, 0), (20, 1), (21, 2)]


def test_a_reset_begins_a_new_stream():
    stream = noise(5 * C)
    with StepRunner(MODEL, VARIANT, beds=1) as runner:
        feeder = StepFeeder(runner, rate_hz=RATE_HZ)
        feeder.push({0: noise(5 * C + 3, seed=1)})
        feeder.reset(0)
        answers = feeder.push({0: stream})
    assert [a.end_sample for a in answers] == [C * (k + 1) for k in range(5)]
    np.testing.assert_allclose([a.outputs["embedding"] for a in answers], stream_means(stream), atol=1e-6)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ({3: np.zeros((2, 5), np.float32)}, "bed 3; beds are numbered 0 to 1"),
        ({0: np.zeros((3, 5), np.float32)}, r"float32 \(3, 5\); give float32 \(2, n\)"),
        ({0: np.zeros((2, 5))}, "float64"),
        ({0: np.zeros((2, 5), np.float32), 1: np.full((2, 5), np.inf, np.float32)}, "bed 1: .* infinity"),
    ],
)
def test_the_feeder_refuses(pieces, message):
    stream = noise(C)
    with StepRunner(MODEL, VARIANT, beds=2) as runner:
        feeder = StepFeeder(runner, rate_hz=RATE_HZ)
        with pytest.raises(EngineError, match=message):
            feeder.push(pieces)
        [answer] = feeder.push({0: stream})
    np.testing.assert_allclose(answer.outputs["embedding"], stream_means(stream)[0], atol=1e-6)


def test_a_failed_step_lets_its_beds_begin_anew():
    stream = noise(4 * C)
    with StepRunner(MODEL, VARIANT, beds=1) as runner:
        feeder = StepFeeder(runner, rate_hz=RATE_HZ)
        feeder.push({0: noise(C, seed=2)})
        with pytest.raises(EngineError, match="not finite"):
            feeder.push({0: np.full((2, C), 3e38, np.float32)})
        answers = feeder.push({0: stream})
    np.testing.assert_allclose([a.outputs["embedding"] for a in answers], stream_means(stream), atol=1e-6)
