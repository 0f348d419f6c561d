"""The reference's tiny W2V+CMSC network: its weights by published name, and ours with those weights."""

import json
import math
from pathlib import Path

import numpy as np
import torch

from ecgedge_train.encoders.w2v import W2vEncoder, W2vSize
from ecgedge_train.importers.fairseq_signals import rename_weights
from ecgedge_train.quantizer import W2vHead

TINY = W2vSize(
    conv_width=16, width=32, feedforward=64, layers=1, heads=4, positional_kernel=8, positional_groups=4
)


def read_reference(oracles):
    return json.loads((oracles / "fairseq_signals.json").read_text())


def fill(det, name, shape, k):
    """The reference's weight number k, as its runs were filled."""
    n = math.prod(shape)
    if name.endswith("original0"):
        values = det(n, k) + 1.5  # gains of a weight norm are positive
    elif name == "mask_emb":
        values = det(n, k)
    elif name == "quantizer.vars":
        values = det(n, k) * math.sqrt(24)
    elif len(shape) > 1:
        values = det(n, k) * math.sqrt(24 / math.prod(shape[1:]))
    else:
        values = np.full(n, float(name.endswith("weight")))
    return torch.from_numpy(values.reshape(shape)).float()


def tiny_weights(oracles, det):
    """State dict of the reference's tiny network under its published names."""
    listed = read_reference(oracles)["tiny_model"]["params"]
    return {name: fill(det, name, shape, k) for k, name, shape in listed}


def tiny_encoder(oracles, det, **options):
    encoder = W2vEncoder(size=TINY, **options)
    known = rename_weights(tiny_weights(oracles, det), Path("tiny"))
    missing, unexpected = encoder.load_state_dict(known, strict=False)
    assert sorted(missing) == ["lead_shift.bias", "lead_shift.weight"]
    assert not unexpected
    return encoder.eval()


def tiny_head(oracles, det):
    head = W2vHead(16, 32, groups=2, codes=5, quantized_size=8, final_size=8)
    weights = tiny_weights(oracles, det)
    with torch.no_grad():
        head.quantizer.codebook.copy_(weights["quantizer.vars"].reshape(2, 5, 4))
        for theirs, ours in {
            "quantizer.weight_proj": head.quantizer.to_logits,
            "project_q": head.project_target,
            "final_proj": head.project_context,
        }.items():
            ours.weight.copy_(weights[f"{theirs}.weight"])
            ours.bias.copy_(weights[f"{theirs}.bias"])
    return head.eval()
