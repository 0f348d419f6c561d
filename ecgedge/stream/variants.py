"""A bundle's variants, loaded, self-tested, and chosen by the leads that are on now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypedDict

from ecgedge.bundle import Bundle, Precision, StreamSpec, VariantSpec
from ecgedge.errors import BundleError, EngineError, UsageError
from ecgedge.runtime import AUTO, Runner, StepPool, WithDistance, WithMovement, open_on
from ecgedge.runtime.base import Closing, closed_on_error
from ecgedge.stream.work import Server

# Targets whose INT8 is faster than fp32 on a CPU; "cpu" is what "x86-cpu" was called in earlier bundles.
INT8_TARGETS = ("x86-cpu", "cpu", "openvino")


Form = Literal["window", "stream"]
"""What answers: the window form, which sees each window anew, or the streaming form, which remembers."""


class VariantChoice(Protocol):
    """What a bed asks of its variants."""

    @property
    def stream(self) -> StreamSpec | None:
        """How streaming forms are fed, if these serve."""
        ...

    def choose(self, usable: Collection[str]) -> tuple[VariantSpec, Server] | None:
        """Return what serves when these leads can be used, or None."""
        ...


class Lengths(TypedDict):
    """What a bed's `Windower` is made with."""

    window_samples: int
    hop_samples: int
    first_end: int
    keep_samples: int


def window_lengths(bundle: Bundle, variants: VariantChoice) -> Lengths:
    """Return the windows' lengths; of streaming forms in whole chunks, as near to the bundle's as that allows."""
    manifest, stream = bundle.manifest, variants.stream
    window = round(manifest.window_s * manifest.front_end.rate_hz)
    hop = round(manifest.hop_s * manifest.front_end.rate_hz)
    if stream is None:
        return Lengths(window_samples=window, hop_samples=hop, first_end=window, keep_samples=window)
    chunk = stream.chunk_samples
    window = -(-max(window, stream.ready_after_samples) // chunk) * chunk
    return Lengths(
        window_samples=window,
        hop_samples=max(1, round(hop / chunk)) * chunk,
        first_end=window,
        keep_samples=max(window, stream.exact_after_samples),
    )


class Variants(Closing):
    """All variants of a bundle in one of its forms, behind one choice; beds that share one are answered together.

    A variant's engine serves if it was built for this machine; ONNX Runtime serves otherwise.

    Parameters
    ----------
    bundle
        The bundle; each variant's runner must reproduce the bundle's self-test before it may serve.
    precision
        Preferred where a lead set has it. By default INT8 in a bundle for CPUs, else fp32: the symmetric
        INT8 of the engine targets is slower than fp32 on a CPU.
    runtime
        One of `ecgedge.runtime.RUNTIMES`; "auto" takes, for each variant, the first that is installed and passes.
        Streaming forms run on ONNX Runtime.
    form
        Which form serves.
    movement
        Say of every output, too, how far it moves under small noise on the input, at eight times the work; of
        window forms.

    Attributes
    ----------
    form
        Which form serves.
    stream
        How streaming forms are fed, if these serve.
    refused
        What was said of engines that do not fit here and of variants that failed their self-test here, and which
        variant or runtime serves in their place.

    Raises
    ------
    BundleError
        If no variant at all agrees with the self-test.
    UsageError
        If the runtime is unknown or not installed.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: Precision | None = None,
        runtime: str = AUTO,
        form: Form = "window",
        movement: bool = False,
    ) -> None:
        preferred = precision or ("int8" if bundle.manifest.target in INT8_TARGETS else "fp32")
        self.refused: list[str] = []
        self._by_leads: dict[tuple[str, ...], tuple[VariantSpec, _Serving]] = {}
        self.form: Form = form
        self.stream: StreamSpec | None = None
        fitting = [v for v in bundle.manifest.variants if (v.stream is not None) == (form == "stream")]
        if not fitting:
            other = "streaming" if form == "window" else "window"
            raise BundleError(
                f"{bundle.source} holds {other} forms only; to serve the {form} form, export with --form both"
            )
        with closed_on_error(self):
            for leads in dict.fromkeys(v.leads for v in fitting):
                specs = [v for v in fitting if v.leads == leads]
                specs.sort(key=lambda v: v.precision != preferred)
                opened = self._open_first(bundle, specs, runtime, movement=movement)
                if opened is not None:
                    self._by_leads[leads] = opened
            if not self._by_leads:
                raise BundleError(f"{bundle.source}: nothing in it can serve here: {'; '.join(self.refused)}")
            if form == "stream":
                self.stream = _common_stream([spec for spec, _ in self._by_leads.values()], bundle)
        self._order = sorted(self._by_leads, key=len, reverse=True)

    def _open_first(
        self, bundle: Bundle, specs: list[VariantSpec], runtime: str, *, movement: bool
    ) -> tuple[VariantSpec, _Serving] | None:
        """Return the first that is proven here; a lead set without one goes, the others serve."""
        reasons: list[str] = []
        for spec in specs:
            try:
                serving = _open(bundle, spec, runtime, movement=movement)
            except EngineError as error:
                reasons.append(str(error))
            else:
                self.refused += [f"{reason}. {spec.name} serves" for reason in reasons]
                self.refused += serving.refused
                return spec, serving
        leads = ",".join(specs[0].leads)
        self.refused += [f"{reason}. Nothing serves the lead set {leads}" for reason in reasons]
        return None

    def choose(self, usable: Collection[str]) -> tuple[VariantSpec, Server] | None:
        """Return the variant with the most leads among those that need only `usable` ones."""
        for leads in self._order:
            if set(leads) <= set(usable):
                spec, serving = self._by_leads[leads]
                return spec, serving.server
        return None

    @property
    def lead_sets(self) -> tuple[tuple[str, ...], ...]:
        """Lead sets that can be served, the largest first."""
        return tuple(self._order)

    @property
    def runtimes(self) -> dict[str, str]:
        """Which runtime serves, by variant name."""
        return {spec.name: serving.runtime for spec, serving in self._by_leads.values()}

    def close(self) -> None:
        """Release the runners."""
        for _, serving in self._by_leads.values():
            serving.server.close()


@dataclass(frozen=True)
class _Serving:
    server: Server
    runtime: str
    refused: tuple[str, ...] = ()


def _open(bundle: Bundle, spec: VariantSpec, runtime: str, *, movement: bool) -> _Serving:
    if spec.stream is None:
        opened = open_on(bundle, spec, runtime=runtime)
        runner: Runner = (
            opened.runner if spec.embedding is None else WithDistance(opened.runner, spec.embedding)
        )
        return _Serving(WithMovement(runner) if movement else runner, opened.runtime, opened.refused)
    if movement:
        raise UsageError(
            "how far outputs move under noise is measured on window forms; serve the window form"
        )
    if runtime not in (AUTO, "ort"):
        raise UsageError(
            f"streaming forms run on ort (ONNX Runtime), not on {runtime}; leave the runtime out"
        )
    return _Serving(StepPool(bundle, spec), "ort")


def _common_stream(specs: list[VariantSpec], bundle: Bundle) -> StreamSpec:
    """Return the lengths that all streaming forms share; the states of that one are its own."""
    streams = [spec.stream for spec in specs if spec.stream is not None]
    if len({s.chunk_samples for s in streams}) != 1:
        raise BundleError(
            f"{bundle.source}: its streaming forms take chunks of several lengths; export it again"
        )
    longest = max(s.exact_after_samples for s in streams)
    return replace(streams[0], exact_after_samples=longest)
