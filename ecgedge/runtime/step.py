"""A streaming form in ONNX Runtime: one chunk of each bed in, outputs out, every bed's state kept here.

One object owns the states: they are allocated once, no caller holds or passes them, and a refused call leaves them as
they were. Beds are batched into a few fixed sizes that were run before the first answer, because each new size costs
allocations; a chunk has exactly the length that the graph was made for.

A state of shape (channels, n) lies in memory as (channels, beds, n): as the graph wants it, see
`ecgedge.bundle.StreamSpec`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgedge.bundle import Bundle, StreamSpec, VariantSpec
from ecgedge.errors import EngineError
from ecgedge.runtime.base import INPUT_NAME, OfVariant, closed_on_error, one_line, require_finite
from ecgedge.runtime.ort import open_session
from ecgedge.runtime.selftest import stream_self_test

BUCKETS = (1, 4, 16, 64)
"""Batch sizes that are run."""
FULL_ENOUGH = 0.75
"""A bucket this full is run rather than several smaller ones."""

F32 = NDArray[np.float32]
_ALIGNED = 16
"""Floats in a line of the cache: every array of a block begins with one."""


class StepRunner(OfVariant):
    """The streaming form of a variant for a number of beds; warmed up, but not yet tested (see `open_step_runner`).

    Parameters
    ----------
    model
        The ONNX file's bytes.
    variant
        Its specification, with `stream`.
    beds
        How many beds there are, at least 1; they are called 0, 1, ...
    threads
        Threads inside one operator.

    Raises
    ------
    EngineError
        If ONNX Runtime refuses or cannot run the file, or it does not take what the specification says.
    UsageError
        If ONNX Runtime is not installed.
    """

    def __init__(
        self,
        model: bytes,
        variant: VariantSpec,
        *,
        beds: int,
        threads: int = 1,
    ) -> None:
        if variant.stream is None:
            raise EngineError(f"{variant.name} is a window form; open it with ecgedge.runtime.open_runner")
        if beds < 1:
            raise EngineError(f"{beds} beds; give at least 1")
        super().__init__(variant)
        self._spec, self._n_beds = variant.stream, beds
        self._session: Any = open_session(model, threads=threads, name=self.name)
        self._check_inputs()
        self._seen = [0] * beds
        self._pool = _Block([(c, beds, n) for c, n in self.spec.state_shapes])
        self._buckets: dict[int, _Bucket] = {}
        self._warm_up()

    @classmethod
    def from_variant(cls, bundle: Bundle, variant: VariantSpec, *, beds: int) -> StepRunner:
        """Open one streaming variant of a bundle."""
        return cls(bundle.read_bytes(variant.file), variant, beds=beds)

    @property
    def spec(self) -> StreamSpec:
        """Lengths and states."""
        return self._spec

    @property
    def beds(self) -> int:
        """How many beds there are."""
        return self._n_beds

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the file's order."""
        return tuple(next(iter(self._buckets.values())).outputs)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that this number of beds needs, all of them warm."""
        return tuple(self._buckets)

    @property
    def states(self) -> list[F32]:
        """The states themselves, (channels, beds, n) each; for those who look for faults."""
        return self._pool.arrays

    def seen_samples(self, bed: int) -> int:
        """Return how many samples the bed has had since its last reset or prime began."""
        self._check_beds([bed])
        return self._seen[bed]

    def ready(self, bed: int) -> bool:
        """Whether the bed has filled its window: before that, its outputs are of a window that is partly empty."""
        return self.seen_samples(bed) >= self.spec.ready_after_samples

    def step(self, beds: Sequence[int], chunk_mv: F32) -> dict[str, F32]:
        """Give each of some beds its next chunk.

        Parameters
        ----------
        beds
            Each bed at most once.
        chunk_mv
            (len(beds), K, C) float32 millivolts, C exactly `spec.chunk_samples`.

        Returns
        -------
        dict
            Outputs by name, (len(beds),) or (len(beds), size), of the windows that end with these chunks.

        Raises
        ------
        EngineError
            On a wrong shape, type, bed or value; no state has changed then. Also if an output is not finite; then beds
            that were run in an earlier batch of this call have taken their step, so reset all that were named.
        """
        if self._session is None:
            raise EngineError(f"{self.name}: the runner is closed; open the variant again")
        index = self._check_beds(beds)
        chunk = self._check_chunk(chunk_mv, len(index))
        parts: list[dict[str, F32]] = []
        start = 0
        for size, n in plan_batches(len(index)):
            parts.append(self._run(self._buckets[size], index[start : start + n], chunk[start : start + n]))
            start += n
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def reset(self, bed: int) -> None:
        """Let a bed begin a new stream: nothing of its past is left."""
        self._check_beds([bed])
        for state in self.states:
            state[:, bed] = 0.0
        self._seen[bed] = 0

    def prime(self, bed: int, samples_mv: F32) -> dict[str, F32]:
        """Begin a bed's stream anew with samples that are there already; return the outputs at their end.

        Parameters
        ----------
        samples_mv
            (K, n) float32 millivolts, n a multiple of the chunk. With `spec.exact_after_samples` or more the outputs
            are those of a stream that never began anew.

        Raises
        ------
        EngineError
            On a wrong shape, type or value; no state has changed then.
        """
        self._check_beds([bed])
        c = self.spec.chunk_samples
        if samples_mv.ndim != 2 or samples_mv.shape[1] < c or samples_mv.shape[1] % c:
            raise EngineError(
                f"{self.name}: samples of shape {samples_mv.shape} to prime with; give ({len(self.leads)}, n), n a "
                f"multiple of {c}, best the last {self.spec.exact_after_samples}"
            )
        chunks = samples_mv.reshape(len(samples_mv), -1, c).transpose(1, 0, 2)
        self._check_chunk(chunks, len(chunks))
        self.reset(bed)
        outputs: dict[str, F32] = {}
        for chunk in chunks:
            outputs = self.step([bed], chunk[None])
        return outputs

    def grow(self, more: int) -> None:
        """Add beds, numbered on; those that are there keep their states."""
        self._n_beds += more
        self._seen += [0] * more
        before = self.states
        self._pool = _Block([(c, self._n_beds, n) for c, n in self.spec.state_shapes])
        for state, old in zip(self.states, before, strict=True):
            state[:, : old.shape[1]] = old
        self._warm_up()

    def sizes_agree(self) -> bool:
        """Tell whether one bed's outputs and next states are the same bits in each place of each batch size."""
        noise = np.random.default_rng(0)
        shapes = [
            (len(self.leads), 1, self.spec.chunk_samples),
            *((c, 1, n) for c, n in self.spec.state_shapes),
        ]
        chunk, *states = [noise.normal(0.0, 0.3, shape).astype(np.float32) for shape in shapes]
        said: set[bytes] = set()
        for bucket in self._buckets.values():
            bucket.chunk[:] = chunk
            for mine, state in zip(bucket.states.arrays, states, strict=True):
                mine[:] = state
            bucket.run()
            for place in range(len(bucket.chunk)):
                own = [values[place] for values in bucket.outputs.values()]
                own += [state[:, place] for state in bucket.next_states.arrays]
                said.add(b"".join(np.ascontiguousarray(values).tobytes() for values in own))
        return len(said) == 1

    def close(self) -> None:
        """Release the session; safe to call twice."""
        self._session = None
        for bucket in self._buckets.values():
            bucket.close()

    def _warm_up(self) -> None:
        """Make and run the batch sizes that this number of beds needs."""
        if len(self._buckets) == len(BUCKETS):
            return
        for size in sorted({size for n in range(1, self._n_beds + 1) for size, _ in plan_batches(n)}):
            if size not in self._buckets:
                bucket = _Bucket(self._session, size, self.spec, n_leads=len(self.leads), name=self.name)
                bucket.run()
                self._buckets[size] = bucket

    def _run(self, bucket: _Bucket, index: list[int], chunk: F32) -> dict[str, F32]:
        n, first = len(index), index[0]
        # Beds whose states lie beside each other, as those of a ward do, are copied at once.
        in_a_row = index == list(range(first, first + n))
        own = slice(first, first + n) if in_a_row else index
        everybody = in_a_row and n == self._n_beds == len(bucket.chunk)
        bucket.chunk[:n, :, 0] = chunk
        if everybody:
            np.copyto(bucket.states.memory, self._pool.memory)
        else:
            for pool, state in zip(self._pool.arrays, bucket.states.arrays, strict=True):
                state[:, :n] = pool[:, own] if in_a_row else np.take(pool, index, axis=1)
        bucket.run()
        outputs = {name: values[:n].copy() for name, values in bucket.outputs.items()}
        if not bucket.said.finite():  # or in a row that nobody asked for
            require_finite(outputs, name=self.name)
        if everybody:
            np.copyto(self._pool.memory, bucket.next_states.memory)
        else:
            for pool, state in zip(self._pool.arrays, bucket.next_states.arrays, strict=True):
                pool[:, own] = state[:, :n]
        n_new = self.spec.chunk_samples
        for bed in index:
            self._seen[bed] += n_new
        return outputs

    def _check_beds(self, beds: Sequence[int]) -> list[int]:
        try:
            index = [operator.index(bed) for bed in beds]
        except TypeError as error:
            raise EngineError(f"{self.name}: beds {list(beds)}; give whole numbers") from error
        if not index or len(set(index)) != len(index):
            raise EngineError(f"{self.name}: beds {list(beds)}; name each bed once, and at least one")
        if min(index) < 0 or max(index) >= self.beds:
            raise EngineError(f"{self.name}: beds {list(beds)}; they are numbered 0 to {self.beds - 1}")
        return index

    def _check_chunk(self, chunk_mv: F32, n: int) -> F32:
        k, c = len(self.leads), self.spec.chunk_samples
        if chunk_mv.dtype != np.float32:
            raise EngineError(f"{self.name}: the chunk is {chunk_mv.dtype}; give float32 millivolts")
        if chunk_mv.shape != (n, k, c):
            raise EngineError(
                f"{self.name}: the chunk has shape {chunk_mv.shape}; this streaming form takes exactly {c} samples a "
                f"step, ({n}, {k}, {c}). Beds collect them: ecgedge.stream.Bed"
            )
        if not np.isfinite(chunk_mv).all():
            bad = np.flatnonzero(~np.isfinite(chunk_mv).all(axis=(1, 2)))
            raise EngineError(
                f"{self.name}: rows {bad.tolist()} of the chunk hold NaN or infinity, which would stay in the state; "
                "fill gaps first, or reset the bed"
            )
        return chunk_mv

    def _check_inputs(self) -> None:
        taken = {i.name: tuple(i.shape) for i in self._session.get_inputs()}
        wanted: dict[str, tuple[object, ...]] = {
            INPUT_NAME: ("batch", len(self.leads), 1, self.spec.chunk_samples)
        }
        for name, (channels, n) in zip(self.spec.state_names, self.spec.state_shapes, strict=True):
            wanted[name] = (1, channels, "batch", n)
        given = {output.name for output in self._session.get_outputs()}
        # A prime is made of whole chunks.
        uneven = self.spec.exact_after_samples % max(1, self.spec.chunk_samples)
        if taken != wanted or not set(self.spec.next_names) < given or uneven:
            raise EngineError(
                f"{self.name}: the model takes {taken} and gives {sorted(given)}, which is not the streaming form that "
                "the manifest tells of. Export the bundle again"
            )


def plan_batches(n: int) -> list[tuple[int, int]]:
    """Return how n beds are batched: (size of the bucket, beds in it), in order."""
    batches: list[tuple[int, int]] = []
    while n:
        size = max(b for b in BUCKETS if b * FULL_ENOUGH <= n)
        batches.append((size, min(size, n)))
        n -= batches[-1][1]
    return batches


class _Block:
    """Arrays in one piece of memory, which so are copied or looked at as one."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        sizes = [-(-prod(shape) // _ALIGNED) * _ALIGNED for shape in shapes]
        self.memory: F32 = np.zeros(sum(sizes), np.float32)
        begins = [sum(sizes[:k]) for k in range(len(sizes))]
        self.arrays: list[F32] = [
            self.memory[begin : begin + prod(shape)].reshape(shape)
            for begin, shape in zip(begins, shapes, strict=True)
        ]

    def finite(self) -> bool:
        """Tell whether every number is."""
        return bool(np.isfinite(self.memory).all())


class _Bucket:
    """The buffers of one batch size, handed to ONNX Runtime once."""

    def __init__(self, session: Any, size: int, spec: StreamSpec, *, n_leads: int, name: str) -> None:
        shapes = [(channels, size, n) for channels, n in spec.state_shapes]
        said = {o.name: (size, *o.shape[1:]) for o in session.get_outputs() if o.name not in spec.next_names}
        self.chunk: F32 = np.zeros((size, n_leads, 1, spec.chunk_samples), np.float32)
        self.states, self.next_states, self.said = _Block(shapes), _Block(shapes), _Block(list(said.values()))
        self.outputs = dict(zip(said, self.said.arrays, strict=True))
        self._session, self._name = session, name
        self._binding = session.io_binding()
        self._bind(self._binding.bind_input, {INPUT_NAME: self.chunk})
        self._bind(self._binding.bind_input, _as_graph(spec.state_names, self.states))
        self._bind(self._binding.bind_output, self.outputs)
        self._bind(self._binding.bind_output, _as_graph(spec.next_names, self.next_states))

    @staticmethod
    def _bind(bind: Callable[..., None], arrays: Mapping[str, F32]) -> None:
        for name, array in arrays.items():
            bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Compute outputs and next states of what lies in the buffers."""
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise EngineError(
                f"{self._name}: ONNX Runtime could not run a batch of {len(self.chunk)}: {one_line(error)}; "
                "run the bundle's self-test: ecgedge bundle verify"
            ) from error

    def close(self) -> None:
        """Let go of the session."""
        self._session = self._binding = None


def _as_graph(names: Sequence[str], states: _Block) -> dict[str, F32]:
    """Return states as the graph wants them, (1, channels, beds, n)."""
    return {name: state[None] for name, state in zip(names, states.arrays, strict=True)}


def open_step_runner(bundle: Bundle, variant: VariantSpec, *, beds: int) -> StepRunner:
    """Open one streaming variant and let it serve only if it passes the bundle's self-test.

    Raises
    ------
    EngineError
        If the file is refused or an output is outside the tolerance.
    UsageError
        If ONNX Runtime is not installed.
    """
    runner = StepRunner.from_variant(bundle, variant, beds=beds)
    with closed_on_error(runner):
        stream_self_test(runner, bundle)
    return runner
