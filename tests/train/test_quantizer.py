"""The product quantizer against numbers of the published code."""

import json

import numpy as np
import pytest
import torch

from ecgedge_train.encoders.w2v import Tokens
from ecgedge_train.quantizer import GumbelQuantizer, W2vHead, gumbel_temperature, perplexity


@pytest.fixture
def reference(oracles):
    return json.loads((oracles / "fairseq_signals.json").read_text())


@pytest.fixture
def filled(det):
    quantizer = GumbelQuantizer(16, groups=2, codes=5, size=8)
    with torch.no_grad():
        quantizer.codebook.copy_(torch.from_numpy(det(40, 0) * 24**0.5).reshape(2, 5, 4))
        quantizer.to_logits.weight.copy_(torch.from_numpy(det(160, 1) * (24 / 16) ** 0.5).reshape(10, 16))
    features = torch.from_numpy(det(224, 100).reshape(2, 7, 16) * 4).float()
    return quantizer.eval(), features


def test_reference_values(reference, filled):
    known, (quantizer, features) = reference["quantizer"], filled
    with torch.inference_mode():
        found = quantizer(features)
    assert found.codes.tolist() == known["targets"]
    assert float(found.code_perplexity) == pytest.approx(known["code_perplexity"], abs=1e-4)
    assert float(found.prob_perplexity) == pytest.approx(known["prob_perplexity"], abs=1e-4)
    assert found.vectors.norm().item() == pytest.approx(known["x_sum_l2"][1], rel=1e-5)
    assert found.vectors.sum().item() == pytest.approx(known["x_sum_l2"][0], rel=1e-5)
    np.testing.assert_allclose(found.vectors[0, 0], known["x_0_0"], rtol=1e-5)


def test_temperature_schedule(reference):
    for update, temperature in reference["gumbel_temp_by_update"].items():
        assert gumbel_temperature(int(update)) == pytest.approx(temperature, rel=1e-9)


def test_vectors_are_those_of_the_codes_in_training_too(filled):
    quantizer, features = filled
    torch.manual_seed(0)
    found = quantizer.train()(features, temperature=2.0)
    for group in range(2):
        expected = quantizer.codebook[group][found.codes[..., group]]
        torch.testing.assert_close(found.vectors[..., 4 * group : 4 * group + 4], expected)


def test_codes_are_drawn_with_their_probabilities():
    # Gumbel-max: whatever the temperature, a code wins with its softmax probability.
    quantizer = GumbelQuantizer(3, groups=1, codes=4, size=4).train()
    features = torch.tensor([[0.3, -0.5, 0.8]]).expand(20_000, 3)
    torch.manual_seed(1)
    for temperature in (0.5, 2.0):
        drawn = quantizer(features, temperature=temperature).codes[:, 0]
        share = drawn.bincount(minlength=4) / len(drawn)
        expected = quantizer.to_logits(features[0]).softmax(0).detach()
        np.testing.assert_allclose(share, expected, atol=0.018)  # five standard errors


def test_gradient_reaches_codebook_and_logits_in_training(filled):
    quantizer, features = filled
    quantizer.train()(features, temperature=1.0).vectors.square().sum().backward()
    assert quantizer.codebook.grad.abs().sum() > 0
    assert quantizer.to_logits.weight.grad.abs().sum() > 0


def test_perplexity_counts_the_codes_in_use():
    uniform = torch.full((7, 2, 320), 1 / 320)
    assert perplexity(uniform).item() == pytest.approx(640, rel=1e-3)
    assert perplexity(torch.eye(8)[[2, 2, 2]][:, None, :]).item() == pytest.approx(1, rel=1e-3)
    assert perplexity(torch.eye(8)[[2, 5, 2, 5]][:, None, :]).item() == pytest.approx(2, rel=1e-3)


def test_autocast_does_not_choose_other_codes(filled):
    quantizer, features = filled
    near = features[:1].repeat(50, 1, 1) + 1e-3 * torch.randn(
        50, 7, 16, generator=torch.Generator().manual_seed(0)
    )
    with torch.autocast("cpu", torch.bfloat16):
        found = quantizer(near)
    assert torch.equal(found.codes, quantizer(near).codes)
    assert found.vectors.dtype == torch.float32


def test_head_takes_the_masked_tokens_in_order_of_time():
    head = W2vHead(4, 6, groups=1, codes=3, quantized_size=4, final_size=5).eval()
    tokens = Tokens(torch.randn(2, 8, 6), torch.randn(2, 8, 4), torch.tensor(0.0))
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[0, [1, 4, 6]] = mask[1, [0, 2, 7]] = True
    found = head(tokens, mask)
    expected = head.project_context(tokens.context[1, [0, 2, 7]])
    torch.testing.assert_close(found.predicted[1], expected)
    assert found.predicted.shape == found.targets.shape == (2, 3, 5)
    assert found.codes.shape == (2, 3, 1)
    assert found.n_codes == 3
    mask[0, 1] = False
    with pytest.raises(ValueError, match="2 to 3"):
        head(tokens, mask)


def test_refuses_groups_that_cannot_share():
    with pytest.raises(ValueError, match="3 groups"):
        GumbelQuantizer(4, groups=3, codes=2, size=8)
