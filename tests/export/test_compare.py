"""Differences and gates, against values worked out by hand."""

import numpy as np
import pytest

from ecgedge.errors import EngineError
from ecgedge_export.compare import (
    Int8Gate,
    QuantizationError,
    centred_cosine,
    compare,
    floored_cosine,
    require_close,
    require_exact,
)

EMBEDDING = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)


def outputs(embedding, p):
    return {"p_gt_18": np.asarray(p, np.float32), "embedding": np.asarray(embedding, np.float32)}


def test_centred_cosine_by_hand():
    """Rotating the four unit vectors by 60 degrees gives a cosine of 1/2 each."""
    c, s = 0.5, 3**0.5 / 2
    turned = EMBEDDING @ np.array([[c, s], [-s, c]], np.float32)
    np.testing.assert_allclose(centred_cosine(EMBEDDING, turned), 0.5, atol=1e-6)


def test_a_common_offset_does_not_hide_damage():
    """With an offset of 100 the plain cosine of opposite vectors is over 0.999; centred it is -1."""
    reference, candidate = EMBEDDING + 100, 100 - EMBEDDING
    plain = (
        (reference * candidate).sum(1) / np.linalg.norm(reference, axis=1) / np.linalg.norm(candidate, axis=1)
    )
    assert plain.min() > 0.999
    np.testing.assert_allclose(centred_cosine(reference, candidate), -1.0, atol=1e-6)


def test_an_offset_of_the_candidate_is_damage():
    assert centred_cosine(EMBEDDING, EMBEDDING + np.float32(3)).min() < 0.75


def test_compare():
    comparison = compare(outputs(EMBEDDING, [0.1, 0.2, 0.3, 0.9]), outputs(EMBEDDING, [0.1, 0.25, 0.3, 0.9]))
    assert comparison.outputs["p_gt_18"].max_abs == pytest.approx(0.05, abs=1e-7)
    assert comparison.outputs["p_gt_18"].scale == pytest.approx(0.9)
    assert comparison.max_abs == pytest.approx(0.05, abs=1e-7)
    assert comparison.median_cosine == pytest.approx(1.0)
    assert comparison.windows == 4


def test_no_embedding_no_cosine():
    comparison = compare({"y": np.zeros(3, np.float32)}, {"y": np.ones(3, np.float32)})
    assert comparison.median_cosine is None
    require_close(comparison, variant="v", gate=Int8Gate(max_abs=1.0))
    with pytest.raises(QuantizationError, match=r"v: .* y differs by 1, allowed is 0\.1"):
        require_close(comparison, variant="v")


def test_exact_gate():
    reference = outputs(EMBEDDING * 30, [0.5] * 4)
    require_exact(compare(reference, outputs(EMBEDDING * 30 + 2e-4, [0.5] * 4)), variant="v")
    with pytest.raises(EngineError, match=r"v: ONNX Runtime and torch differ by 0\.0005 in embedding"):
        require_exact(compare(reference, outputs(EMBEDDING * 30 + 5e-4, [0.5] * 4)), variant="v")
    with pytest.raises(EngineError, match="in p_gt_18"):
        require_exact(compare(reference, outputs(EMBEDDING * 30, [0.50002] * 4)), variant="v")


def test_not_a_number_never_passes():
    bad = outputs(EMBEDDING * np.nan, [0.5] * 4)
    with pytest.raises(EngineError):
        require_exact(compare(outputs(EMBEDDING, [0.5] * 4), bad), variant="v")
    with pytest.raises(EngineError):
        require_close(compare(outputs(EMBEDDING, [0.5] * 4), bad), variant="v")


def test_close_gate():
    turned = EMBEDDING @ np.array([[0.99, 0.141], [-0.141, 0.99]], np.float32)
    comparison = compare(outputs(EMBEDDING, [0.5] * 4), outputs(turned, [0.5] * 4))
    with pytest.raises(QuantizationError, match=r"I/int8.*median 0\.990.*leave int8 out"):
        require_close(comparison, variant="I/int8")
    with pytest.raises(QuantizationError, match="leave fp16 out"):
        require_close(comparison, variant="I/fp16")
    require_close(comparison, variant="I/int8", gate=Int8Gate(0.98, 0.98))


@pytest.mark.parametrize(
    ("before", "after", "passes"),
    [
        ([0.2, 0.5, 0.7, 0.9], [0.2, 0.59, 0.7, 0.9], True),
        ([0.2, 0.5, 0.7, 0.9], [0.2, 0.61, 0.7, 0.9], False),
        # A pressure of 30 mmHg may move by 3: the difference is relative to the largest value.
        ([8, 12, 16, 30], [8, 12, 18.9, 30], True),
        ([8, 12, 16, 30], [8, 12, 19.1, 30], False),
        ([0.2, 0.5, 0.7, 0.9], [0.2, 0.5, 0.7, np.nan], False),
    ],
)
def test_one_answer_that_moves_too_far(before, after, passes):
    """The embedding is untouched: only the answer decides."""
    comparison = compare(outputs(EMBEDDING, before), outputs(EMBEDDING, after))
    if passes:
        require_close(comparison, variant="I/int8")
    else:
        with pytest.raises(QuantizationError, match=r"I/int8: .*p_gt_18 differs by .*leave int8 out"):
            require_close(comparison, variant="I/int8")


def test_one_record_is_enough_to_fail():
    """Three of four are untouched, so the median is 1; the fourth is another patient's."""
    swapped = EMBEDDING.copy()
    swapped[0] = EMBEDDING[1]
    comparison = compare(outputs(EMBEDDING, [0.5] * 4), outputs(swapped, [0.5] * 4))
    assert comparison.median_cosine == pytest.approx(1.0)
    with pytest.raises(QuantizationError):
        require_close(comparison, variant="v")


def test_a_record_at_the_mean_is_judged_by_its_error():
    """Four unit vectors and one of length 0.01: the root mean square is 0.894, the floor a quarter of it, 0.2236.

    An error of 0.02 turns the short one right over, but is 1 - 0.02^2 / (2 x 0.05) = 0.996 at the floor's length.
    """
    reference = np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [0, 0]], np.float32)
    reference[4, 0] = 0.01
    candidate = reference.copy()
    candidate[4, 0] = -0.01
    # The mean is (0.002, 0): the short one is 0.008 from it, and -0.012 after the error.
    assert centred_cosine(reference, candidate)[4] == pytest.approx(-1.0)
    assert floored_cosine(reference, candidate)[4] == pytest.approx(0.996, abs=1e-4)
    np.testing.assert_allclose(floored_cosine(reference, candidate)[:4], 1.0)
    comparison = compare(outputs(reference, [0.5] * 5), outputs(candidate, [0.5] * 5))
    assert (comparison.min_cosine, comparison.gated_cosine) == (
        pytest.approx(-1.0),
        pytest.approx(0.996, abs=1e-4),
    )
    gate = Int8Gate(0.995)
    require_close(comparison, variant="v", gate=gate)
    candidate[4, 0] = -0.03
    with pytest.raises(QuantizationError, match=r"\(gated 0\.98"):
        require_close(
            compare(outputs(reference, [0.5] * 5), outputs(candidate, [0.5] * 5)), variant="v", gate=gate
        )


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ({"embedding": EMBEDDING}, "outputs differ"),
        ({"p_gt_18": np.zeros(4, np.float32), "embedding": EMBEDDING[:3]}, r"embedding has shape \(3, 2\)"),
    ],
)
def test_other_outputs(candidate, message):
    with pytest.raises(EngineError, match=message):
        compare(outputs(EMBEDDING, [0.5] * 4), candidate)
