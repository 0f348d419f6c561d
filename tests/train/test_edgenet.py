"""EdgeNet: its budget, exact lead-set folding, and that time resolution survives to the first block."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ecgedge.leads import STANDARD_LEADS, derivation_matrix, parse_lead_set, presence_vector
from ecgedge_train.encoders import EdgeNet
from ecgedge_train.masking import fixed_lead_set

KINDS = [
    {},
    {"size": "m"},
    {"causal": True},
    {"size": "m", "causal": True},
]


def trained_like(seed=1, **kind):
    """EdgeNet with norms and biases away from their initial values, so that an error in folding shows."""
    torch.manual_seed(seed)
    net = EdgeNet(**kind).eval()
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.5)
                m.running_var.uniform_(0.5, 2)
                m.weight.uniform_(0.5, 1.5)
                m.bias.normal_(0, 0.3)
        net.presence.bias.normal_()
    return net


def count_macs(net, n_samples):
    total = 0

    def hook(module, _inputs, output):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        else:
            total += module.weight.numel()

    handles = [m.register_forward_hook(hook) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.inference_mode():
        net.eval()(torch.zeros(1, 12, n_samples), torch.ones(1, 12))
    for handle in handles:
        handle.remove()
    return total


def test_budget_of_a_small_device():
    net = EdgeNet()
    assert sum(p.numel() for p in net.parameters()) < 99_000  # the heads come on top, 100,000 in all
    assert 5e6 < count_macs(net, 2500) < 15e6


def test_size_m_is_four_to_six_times_the_work():
    net = EdgeNet(size="m")
    assert sum(p.numel() for p in net.parameters()) == 507_456
    assert 4 < count_macs(net, 2500) / count_macs(EdgeNet(), 2500) < 6


def test_size_s_has_the_shapes_that_saved_weights_have():
    # The bundle inside the package was trained with these.
    shapes = {name: tuple(t.shape) for name, t in EdgeNet().state_dict().items() if "num_batches" not in name}
    assert sum(p.numel() for p in EdgeNet().parameters()) == 84_480
    assert shapes["stem.weight"] == (16, 12, 1, 17)
    assert shapes["presence.weight"] == (16, 12)
    assert [shapes[f"blocks.{i}.conv1.weight"] for i in range(4)] == [
        (16, 16, 1, 7),
        (32, 16, 1, 5),
        (40, 32, 1, 5),
        (64, 40, 1, 5),
    ]
    assert [shapes[f"blocks.{i}.shortcut.0.weight"][:2] for i in range(4)] == [
        (16, 16),
        (32, 16),
        (40, 32),
        (64, 40),
    ]
    assert shapes["fc.weight"] == (128, 128)


def test_unknown_size():
    with pytest.raises(ValueError, match="unknown EdgeNet size 'xl'; known: s, m"):
        EdgeNet(size="xl")


@pytest.mark.parametrize("kind", KINDS)
def test_only_rank_4_dense_convolutions_of_height_1(kind):
    for m in EdgeNet(**kind).modules():
        assert not isinstance(m, nn.Conv1d)
        if isinstance(m, nn.Conv2d):
            assert m.kernel_size[0] == 1
            assert m.groups == 1


def test_rank_3_and_rank_4_inputs_agree():
    net = trained_like()
    x, presence = torch.randn(3, 12, 500), torch.ones(3, 12)
    with torch.inference_mode():
        y = net(x, presence)
        assert y.shape == (3, 128)
        assert torch.equal(y, net(x[:, :, None], presence))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "lead_set", ["12", "limb", "I,II,V1", "I,II", "I", "II", "V1,V5", "I,III,V6", "II,aVR"]
)
def test_folded_network_equals_masked_12_lead_network(lead_set, kind):
    net = trained_like(**kind)
    leads = parse_lead_set(lead_set)
    full = torch.randn(4, 12, 2500)
    full[:, 2:6] = torch.einsum(
        "dl,blt->bdt", torch.from_numpy(derivation_matrix(("I", "II"))[2:6]), full[:, :2]
    )
    x, presence = fixed_lead_set(full, lead_set)
    columns = [STANDARD_LEADS.index(lead) for lead in leads]
    weight = torch.einsum("olhk,lm->omhk", net.stem.weight, torch.from_numpy(derivation_matrix(leads)))
    with torch.inference_mode():
        bias = net.presence(torch.from_numpy(presence_vector(leads)))
        stem = nn.functional.conv2d(
            full[:, columns, None], weight, bias, stride=net.stem.stride, padding=net.stem.padding
        )
        folded = net.after_stem(stem)
        torch.testing.assert_close(folded, net(x, presence), rtol=1e-5, atol=1e-5)


def time_features(net, x):
    return net.time_features(net.stem(x[:, :, None]) + net.presence(torch.ones(len(x), 12))[:, :, None, None])


@given(n=st.integers(200, 700), t=st.integers(0, 699), size=st.sampled_from(["s", "m"]))
@settings(max_examples=20, deadline=None)
def test_causal_features_never_look_ahead(n, t, size):
    t = min(t, n - 1)
    net = trained_like(size=size, causal=True)
    x = torch.randn(1, 12, n)
    changed = x.clone()
    changed[..., t:] += 1.0
    with torch.inference_mode():
        before, after = time_features(net, x), time_features(net, changed)
    # Feature j ends at sample 32 j: all up to (t - 1) // 32 are older than the change, those behind it see it.
    past = (t + 31) // 32
    assert before.shape[-1] == -(-n // 32)
    torch.testing.assert_close(after[..., :past], before[..., :past], rtol=0, atol=1e-6)
    if past < before.shape[-1]:
        assert (after[..., past] - before[..., past]).abs().max() > 1e-4


def test_the_usual_form_does_look_ahead():
    net = trained_like()
    x = torch.randn(1, 12, 640)
    changed = x.clone()
    changed[..., 320:] += 1.0
    with torch.inference_mode():
        assert (time_features(net, changed) - time_features(net, x))[..., :10].abs().max() > 1e-3


def test_causal_embedding_is_running_statistics_of_the_features():
    net = trained_like(causal=True)
    x, presence = torch.randn(2, 12, 1280), torch.ones(2, 12)
    with torch.inference_mode():
        features = time_features(net, x)[:, :, 0]
        for n in (320, 640, 1280):
            seen = features[..., : n // 32]
            pooled = torch.cat([seen.sum(-1) / seen.shape[-1], seen.amax(-1)], dim=1)
            torch.testing.assert_close(net.fc(pooled), net(x[..., :n], presence), rtol=0, atol=1e-5)


def test_causal_names_and_shapes_do_not_change():
    for size in ("s", "m"):
        usual = {name: t.shape for name, t in EdgeNet(size=size).state_dict().items()}
        assert {name: t.shape for name, t in EdgeNet(size=size, causal=True).state_dict().items()} == usual


@pytest.mark.parametrize("kind", KINDS)
def test_absent_leads_give_numbers(kind):
    net = EdgeNet(**kind)
    for mode in (net.train(), net.eval()):
        assert mode(torch.zeros(2, 12, 500), torch.zeros(2, 12)).isfinite().all()


def test_presence_is_seen():
    net = trained_like()
    x = torch.zeros(1, 12, 500)
    with torch.inference_mode():
        assert not torch.allclose(net(x, torch.zeros(1, 12)), net(x, torch.ones(1, 12)))


def test_eval_is_deterministic_and_dropout_is_one_module():
    net = EdgeNet(dropout=0.5)
    modules = {id(m) for m in net.modules()}
    x, p = torch.randn(2, 12, 500), torch.ones(2, 12)
    net.eval()
    with torch.inference_mode():
        assert torch.equal(net(x, p), net(x, p))
        net.train()
        net.dropout.p = 0.0
        still = net(x, p)
        assert torch.equal(still, net(x, p))
    assert {id(m) for m in net.modules()} == modules


def p_waves(n, seed):
    """V1 with a P wave of 100 or 120 ms at 75 a minute, random phase and height, 10 uV of noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(1000) / 250
    long = rng.random(n) < 0.5
    x = 0.01 * rng.normal(size=(n, 12, 1000))
    for i in range(n):
        phase = (t + rng.random()) % 0.8 / (0.12 if long[i] else 0.10)
        x[i, 6] += rng.uniform(0.1, 0.2) * np.sin(np.pi * phase) * (phase < 1)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(long.astype(np.float32))


def test_it_learns_20_ms_of_p_wave_duration():
    torch.manual_seed(0)
    net = nn.Sequential()
    net.encoder, net.head = EdgeNet(dropout=0.0), nn.Linear(128, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    x, y = p_waves(512, seed=1)
    for step in range(60):
        rows = slice(32 * (step % 16), 32 * (step % 16) + 32)
        logit = net.head(net.encoder(x[rows], torch.ones(32, 12)))[:, 0]
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(logit, y[rows]).backward()
        optimizer.step()
    x, y = p_waves(256, seed=2)
    with torch.inference_mode():
        # Batch statistics: after 60 steps at a high rate the running ones still lag behind the weights.
        logit = net.train().head(net.encoder(x, torch.ones(256, 12)))[:, 0]
    assert ((logit > 0) == (y > 0.5)).float().mean() > 0.9


def test_every_parameter_gets_a_gradient():
    net = EdgeNet()
    presence = torch.from_numpy(np.stack([presence_vector(("I",)), presence_vector(("II", "V1"))]))
    net(torch.randn(2, 12, 500), presence).square().mean().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0 or name == "presence.bias", name
