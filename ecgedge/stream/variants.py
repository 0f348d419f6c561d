"""A bundle's variants, loaded, self-tested, and chosen by the leads that are on now."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType

from ecgedge.bundle import Bundle, Precision, VariantSpec
from ecgedge.errors import EngineError, UsageError
from ecgedge.runtime import Runner, open_engine, open_runner

# Targets whose INT8 is faster than fp32 on a CPU; "cpu" is what "x86-cpu" was called in earlier bundles.
INT8_TARGETS = ("x86-cpu", "cpu", "openvino")


class Variants:
    """Every variant of a bundle behind one choice; several beds may share one.

    A variant's engine serves if it was built for this machine; ONNX Runtime serves otherwise.

    Parameters
    ----------
    bundle
        The bundle; each variant's runner must reproduce the bundle's self-test before it may serve.
    precision
        Preferred where a lead set has it. By default INT8 in a bundle for CPUs, else fp32: the symmetric
        INT8 of the engine targets is slower than fp32 on a CPU.

    Attributes
    ----------
    refused
        What was said of engines that do not fit here, and of variants that failed their self-test here: ONNX
        Runtime, or the other precision, serves instead.

    Raises
    ------
    EngineError
        If a lead set has no variant that agrees with the self-test.
    """

    def __init__(self, bundle: Bundle, *, precision: Precision | None = None) -> None:
        preferred = precision or ("int8" if bundle.manifest.target in INT8_TARGETS else "fp32")
        self.refused: list[str] = []
        self._by_leads: dict[tuple[str, ...], tuple[VariantSpec, Runner]] = {}
        for leads in dict.fromkeys(v.leads for v in bundle.manifest.variants):
            specs = [v for v in bundle.manifest.variants if v.leads == leads]
            specs.sort(key=lambda v: v.precision != preferred)
            self._by_leads[leads] = self._open_first(bundle, specs)
        self._order = sorted(self._by_leads, key=len, reverse=True)

    def _open_first(self, bundle: Bundle, specs: list[VariantSpec]) -> tuple[VariantSpec, Runner]:
        reasons: list[str] = []
        for opener in (open_engine, open_runner):
            for spec in specs:
                try:
                    runner = opener(bundle, spec)
                except EngineError as error:
                    reasons.append(str(error))
                except UsageError:
                    if opener is open_runner:
                        raise
                else:
                    self.refused += reasons
                    return spec, runner
        self.close()
        raise EngineError("; ".join(reasons))

    def choose(self, usable: Collection[str]) -> tuple[VariantSpec, Runner] | None:
        """Return the variant with the most leads among those that need only `usable` ones."""
        for leads in self._order:
            if set(leads) <= set(usable):
                return self._by_leads[leads]
        return None

    @property
    def lead_sets(self) -> tuple[tuple[str, ...], ...]:
        """Lead sets that can be served, the largest first."""
        return tuple(self._order)

    def close(self) -> None:
        """Release the runners."""
        for _, runner in self._by_leads.values():
            runner.close()

    def __enter__(self) -> Variants:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
