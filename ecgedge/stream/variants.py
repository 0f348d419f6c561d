"""A bundle's variants, loaded, self-tested, and chosen by the leads that are on now."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from ecgedge.bundle import Bundle, Precision, VariantSpec
from ecgedge.errors import BundleError, EngineError
from ecgedge.runtime import AUTO, Opened, Runner, open_on
from ecgedge.runtime.base import Closing, closed_on_error

# Targets whose INT8 is faster than fp32 on a CPU; "cpu" is what "x86-cpu" was called in earlier bundles.
INT8_TARGETS = ("x86-cpu", "cpu", "openvino")


class VariantChoice(Protocol):
    """What a bed asks of its variants."""

    def choose(self, usable: Collection[str]) -> tuple[VariantSpec, Runner] | None:
        """Return what serves when these leads can be used, or None."""
        ...


class Variants(Closing):
    """Every window form of a bundle behind one choice; several beds may share one.

    Streaming forms are left out: they are served by `ecgedge.runtime.StepRunner`.

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

    Attributes
    ----------
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

    def __init__(self, bundle: Bundle, *, precision: Precision | None = None, runtime: str = AUTO) -> None:
        preferred = precision or ("int8" if bundle.manifest.target in INT8_TARGETS else "fp32")
        self.refused: list[str] = []
        self._by_leads: dict[tuple[str, ...], tuple[VariantSpec, Opened]] = {}
        windows = [v for v in bundle.manifest.variants if v.stream is None]
        if not windows:
            raise BundleError(
                f"{bundle.source} holds streaming forms only; a bed takes windows: export with --form both"
            )
        with closed_on_error(self):
            for leads in dict.fromkeys(v.leads for v in windows):
                specs = [v for v in windows if v.leads == leads]
                specs.sort(key=lambda v: v.precision != preferred)
                opened = self._open_first(bundle, specs, runtime)
                if opened is not None:
                    self._by_leads[leads] = opened
        if not self._by_leads:
            raise BundleError(f"{bundle.source}: nothing in it can serve here: {'; '.join(self.refused)}")
        self._order = sorted(self._by_leads, key=len, reverse=True)

    def _open_first(
        self, bundle: Bundle, specs: list[VariantSpec], runtime: str
    ) -> tuple[VariantSpec, Opened] | None:
        """Return the first that is proven here; a lead set without one goes, the others serve."""
        reasons: list[str] = []
        for spec in specs:
            try:
                opened = open_on(bundle, spec, runtime=runtime)
            except EngineError as error:
                reasons.append(str(error))
            else:
                self.refused += [f"{reason}. {spec.name} serves" for reason in reasons]
                self.refused += opened.refused
                return spec, opened
        leads = ",".join(specs[0].leads)
        self.refused += [f"{reason}. Nothing serves the lead set {leads}" for reason in reasons]
        return None

    def choose(self, usable: Collection[str]) -> tuple[VariantSpec, Runner] | None:
        """Return the variant with the most leads among those that need only `usable` ones."""
        for leads in self._order:
            if set(leads) <= set(usable):
                spec, opened = self._by_leads[leads]
                return spec, opened.runner
        return None

    @property
    def lead_sets(self) -> tuple[tuple[str, ...], ...]:
        """Lead sets that can be served, the largest first."""
        return tuple(self._order)

    @property
    def runtimes(self) -> dict[str, str]:
        """Which runtime serves, by variant name."""
        return {spec.name: opened.runtime for spec, opened in self._by_leads.values()}

    def close(self) -> None:
        """Release the runners."""
        for _, opened in self._by_leads.values():
            opened.runner.close()
