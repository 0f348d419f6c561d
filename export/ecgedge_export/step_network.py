"""The streaming form of a causal encoder: one chunk in, the outputs of the window that ends with it, and the state.

A window costs what its newest chunk costs: each convolution keeps the few inputs that its next outputs still see, and
the pooling keeps sums and maxima of the frames that are still in the window.

Symbols: B beds, K leads, C samples of a chunk, S = 32 samples a frame (the encoder's stride), R samples that one frame
sees (the receptive field), W frames of a window.

Every layer ends with the chunk: frame i of the stream, i = 0, 1, ..., ends at sample 32 i + 31, so a chunk's last
sample is in its last frame. A layer of kernel k and stride s therefore keeps k - s inputs.

Inside, beds are rows: (1, channels, B, samples), and a state is (1, channels, B, n). The kernels are one row high, so
rows do not meet; and a convolution over B rows reads its weights once, over a batch of B it reads them B times, which
is most of the time of the last layers: many weights for few frames.

What it equals: the full-window network of the same weights whose window ends with the chunk, evaluated with the real
samples before the window as context, from `exact_after_samples` = 32 (W - 1) + R on (rounded up to chunks). The plain
window form has zeros in their place: its first R / 32 frames differ, see `VariantSpec.results` for by how much.
A stream starts with zero states, which are that same zero padding; it fills its window after 32 W samples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil
from typing import cast

import torch
from torch import Tensor, nn

from ecgedge.bundle import StreamSpec
from ecgedge.errors import EngineError
from ecgedge_export.fold import OutputLayers, Platt, fold_stem
from ecgedge_train.calibrate import LeadSetCalibration
from ecgedge_train.encoders import EdgeNet, ResNet18
from ecgedge_train.encoders.edgenet import ResidualBlock
from ecgedge_train.encoders.resnet18 import BasicBlock
from ecgedge_train.evaluate.probe import LinearProbe
from ecgedge_train.model import EcgModel, Encoder

CHUNK_SAMPLES = 256
"""1.024 s at 250 Hz: 8 frames."""
FRAME_SAMPLES = 32
REPRIME_S = 3600.0


class Past:
    """The states of one step, taken in the order of the layers; `next` collects those of the next step.

    Without states it makes them, of zeros: so a network's shapes are found, and a stream begins.
    """

    def __init__(self, states: Iterable[Tensor] | None = None) -> None:
        self._states: Iterator[Tensor] | None = None if states is None else iter(states)
        self.next: list[Tensor] = []

    def before(self, x: Tensor, n: int) -> Tensor:
        """Put the n inputs before a chunk in front of it; a negative n drops the chunk's first ones."""
        if n <= 0:
            return x[..., -n:]
        past = x.new_zeros(*x.shape[:3], n) if self._states is None else next(self._states)
        joined = torch.cat([past, x], dim=3)
        self.next.append((x if n <= x.shape[3] else joined)[..., -n:])
        return joined


class StepNetwork(nn.Module):
    """One step of a K-lead network.

    Parameters
    ----------
    model
        Left as it is; its encoder must be causal.
    leads
        The measured leads, in standard order.
    chunk_samples
        C, a multiple of 32.
    window_samples
        Of the window form; the window pools over as many frames as it has, ceil(window_samples / 32).

    Attributes
    ----------
    output_names
        Names of the outputs; the states follow them.
    spec
        Lengths, and the names and shapes of the states.
    seen_samples
        R, the samples that one frame sees.
    """

    def __init__(
        self,
        model: EcgModel,
        leads: Sequence[str],
        *,
        platt: Platt,
        probe: LinearProbe | None,
        chunk_samples: int,
        window_samples: int,
    ) -> None:
        super().__init__()
        encoder = causal_encoder(model.encoder)
        if chunk_samples < FRAME_SAMPLES or chunk_samples % FRAME_SAMPLES:
            raise EngineError(f"chunks of {chunk_samples} samples; give a multiple of {FRAME_SAMPLES}")
        self.stem = _StepLayer(fold_stem(encoder, leads), nn.Sequential(_first_norm(encoder), nn.ReLU()))
        self.maxpool = encoder.maxpool if isinstance(encoder, ResNet18) else None
        blocks = _blocks(encoder)
        self.blocks = nn.ModuleList(_StepBlock(block) for block in blocks)
        self.seen_samples = _receptive_field(encoder, blocks)
        frames = -(-window_samples // FRAME_SAMPLES)
        self.pool = _WindowPool(
            frames=frames, chunk_frames=chunk_samples // FRAME_SAMPLES, maximum=isinstance(encoder, EdgeNet)
        )
        self.fc = _of_pool(encoder.fc, self.pool)
        self.outputs = OutputLayers(model, platt=platt, probe=probe)
        self.output_names = self.outputs.names
        self.n_leads = len(leads)
        self.spec = self._spec(chunk_samples, frames)

    def forward(self, ecg_mv: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """(B, K, 1, C) millivolts and the states to the outputs and the next states."""
        past = Past(states)
        return (*self._step(ecg_mv, past), *past.next)

    def _step(self, ecg_mv: Tensor, past: Past) -> tuple[Tensor, ...]:
        y = self.stem(ecg_mv.permute(2, 1, 0, 3), past)
        if self.maxpool is not None:
            y = nn.functional.max_pool2d(past.before(y, _keeps(self.maxpool)), *_size(self.maxpool))
        for block in self.blocks:
            y = block(y, past)
        outputs: tuple[Tensor, ...] = self.outputs(self.fc(self.pool(y, past)))
        return outputs

    @torch.no_grad()
    def _spec(self, chunk_samples: int, frames: int) -> StreamSpec:
        was_training, past = self.training, Past()
        self.eval()
        self._step(torch.zeros(1, self.n_leads, 1, chunk_samples), past)
        self.train(was_training)
        seen = FRAME_SAMPLES * (frames - 1) + self.seen_samples
        return StreamSpec(
            chunk_samples=chunk_samples,
            window_frames=frames,
            frame_samples=FRAME_SAMPLES,
            ready_after_samples=ceil(FRAME_SAMPLES * frames / chunk_samples) * chunk_samples,
            exact_after_samples=ceil(seen / chunk_samples) * chunk_samples,
            reprime_s=REPRIME_S,
            state_names=tuple(f"state_{i:02d}" for i in range(len(past.next))),
            state_shapes=tuple((state.shape[1], state.shape[3]) for state in past.next),
        )


def step_network(
    model: EcgModel,
    leads: Sequence[str],
    calibration: LeadSetCalibration | None,
    *,
    window_samples: int,
    probe: LinearProbe | None = None,
    chunk_samples: int = CHUNK_SAMPLES,
) -> StepNetwork:
    """Return the streaming form of a trained causal model for one lead set, in eval mode.

    The arguments are those of `fold_lead_set` and `StepNetwork`.

    Raises
    ------
    EngineError
        If the encoder is not causal, or the chunk does not fit.
    """
    return StepNetwork(
        model,
        leads,
        platt=Platt.from_calibration(calibration),
        probe=probe,
        chunk_samples=chunk_samples,
        window_samples=window_samples,
    ).eval()


def causal_encoder(encoder: Encoder) -> EdgeNet | ResNet18:
    """Return an encoder that has a streaming form.

    Raises
    ------
    EngineError
        If it has none, with the reason.
    """
    if not isinstance(encoder, (EdgeNet, ResNet18)):
        raise EngineError(
            f"the encoder {type(encoder).__name__} looks ahead of its own time, so it has no streaming form; export "
            "its window form, or distil it into an edgenet or a resnet18 with encoder.causal=true"
        )
    if not encoder.ahead:
        raise EngineError(
            f"this {type(encoder).__name__} was trained to look ahead of its own time, so it has no streaming form; "
            "train with encoder.causal=true, or export the window form"
        )
    return encoder


def _first_norm(encoder: EdgeNet | ResNet18) -> nn.Module:
    return copy.deepcopy(encoder.bn if isinstance(encoder, EdgeNet) else encoder.bn1)


def _blocks(encoder: EdgeNet | ResNet18) -> list[ResidualBlock | BasicBlock]:
    kinds = (ResidualBlock, BasicBlock)
    return [module for module in encoder.modules() if isinstance(module, kinds)]


def _receptive_field(encoder: EdgeNet | ResNet18, blocks: Sequence[ResidualBlock | BasicBlock]) -> int:
    layers: list[nn.Conv2d | nn.MaxPool2d] = [encoder.stem]
    if isinstance(encoder, ResNet18):
        layers.append(encoder.maxpool)
    for block in blocks:
        layers += [block.conv1, block.conv2]
    seen, stride = 1, 1
    for layer in layers:
        kernel, step = _size(layer)
        seen += (kernel[1] - 1) * stride
        stride *= step[1]
    return seen


Size = tuple[tuple[int, int], tuple[int, int]]


def _size(layer: nn.Conv2d | nn.MaxPool2d) -> Size:
    """Return kernel and stride."""
    (_, kernel), (_, stride) = layer.kernel_size, layer.stride  # type: ignore[misc]  # ours are pairs
    return (1, int(kernel)), (1, int(stride))


def _keeps(layer: nn.Conv2d | nn.MaxPool2d) -> int:
    """Return how many inputs the layer's next outputs still see."""
    kernel, stride = _size(layer)
    return kernel[1] - stride[1]


class _StepLayer(nn.Module):
    """A convolution with its past, and what follows it."""

    def __init__(self, conv: nn.Conv2d, behind: nn.Module) -> None:
        super().__init__()
        kernel, stride = _size(conv)
        made = nn.Conv2d(
            conv.in_channels, conv.out_channels, kernel, stride=stride, bias=conv.bias is not None
        )
        made.load_state_dict(conv.state_dict())
        self.conv, self.behind = made, copy.deepcopy(behind)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        out: Tensor = self.behind(self.conv(past.before(x, _keeps(self.conv))))
        return out


class _StepBlock(nn.Module):
    """A residual block with its past."""

    def __init__(self, block: ResidualBlock | BasicBlock) -> None:
        super().__init__()
        self.first = _StepLayer(block.conv1, nn.Sequential(block.bn1, nn.ReLU()))
        self.second = _StepLayer(block.conv2, block.bn2)
        shortcut = block.shortcut if isinstance(block, ResidualBlock) else block.downsample
        self.shortcut = None
        if isinstance(shortcut, nn.Sequential):
            conv, norm = shortcut
            self.shortcut = _StepLayer(cast("nn.Conv2d", conv), norm)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        y = self.second(self.first(x, past), past)
        return nn.functional.relu(y + (x if self.shortcut is None else self.shortcut(x, past)))


class _WindowPool(nn.Module):
    """Mean, and maximum if asked, over the last W frames: (1, D, B, chunk frames) to (B, D) or (B, 2 D).

    Kept are not the frames but, for each past chunk, the mean of all its frames and the sum of its last r over n, where
    W - n = q n + r for chunks of n frames: the window holds the last q chunks whole, and r frames of the one before.
    They are put together anew at each step, so that no rounding collects.

    What it gives as the mean is `mean_over` times too small, which `_of_pool` puts into the layer behind it: ONNX
    Runtime multiplies (1, D, B, 1) by a number one element at a time.
    """

    def __init__(self, *, frames: int, chunk_frames: int, maximum: bool) -> None:
        super().__init__()
        if frames < chunk_frames:
            raise EngineError(f"a window of {frames} frames is shorter than a chunk of {chunk_frames}")
        self.frames = frames
        self.whole, self.rest = divmod(frames - chunk_frames, chunk_frames)
        self.maximum = maximum
        parts = 1 + self.whole + (1 if self.rest else 0)
        self.mean_over = parts * chunk_frames / frames
        self.tail_share = self.rest / chunk_frames

    def forward(self, x: Tensor, past: Past) -> Tensor:
        pooled = self._over_window(x, past, _mean, tail_share=self.tail_share)
        if self.maximum:
            pooled = torch.cat([pooled, self._over_window(x, past, _maximum)], dim=1)
        return pooled.squeeze(3).squeeze(0).transpose(0, 1)

    def _over_window(
        self, x: Tensor, past: Past, reduce: Callable[[Tensor], Tensor], *, tail_share: float = 1.0
    ) -> Tensor:
        seen = [past.before(reduce(x), self.whole)]
        if self.rest:
            tail = x[..., -self.rest :]
            tail = reduce(tail if tail_share == 1.0 else tail * tail_share)
            seen.append(past.before(tail, self.whole + 1)[..., :1])
        return reduce(torch.cat(seen, dim=3))


def _of_pool(layer: nn.Linear, pool: _WindowPool) -> nn.Linear:
    """Return a layer for what a pool gives instead of the true mean and maximum."""
    made = copy.deepcopy(layer)
    means = made.in_features // 2 if pool.maximum else made.in_features
    with torch.no_grad():
        made.weight[:, :means] *= pool.mean_over
    return made


def _mean(x: Tensor) -> Tensor:
    """Return the mean along the last of four axes, by pooling: its order is the same wherever a bed stands.

    A reduction takes packets of numbers from where memory is aligned, so the last bits would depend on the beds beside.
    """
    return nn.functional.avg_pool2d(x, (1, x.shape[3]))


def _maximum(x: Tensor) -> Tensor:
    return x.amax(dim=3, keepdim=True)
