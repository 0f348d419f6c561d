"""A bundle's variants, loaded, self-tested, and chosen by the leads that are on now."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType

from ecgedge.bundle import Bundle, Precision, VariantSpec
from ecgedge.errors import EngineError
from ecgedge.runtime import Runner, open_runner


class Variants:
    """Every window form of a bundle behind one choice; several beds may share one.

    Streaming forms are left out: they are served by `ecgedge.runtime.StepRunner`.

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
        What was said of variants that failed their self-test here and whose other precision serves instead.

    Raises
    ------
    EngineError
        If a lead set has no variant that agrees with the self-test.
    """

    def __init__(self, bundle: Bundle, *, precision: Precision | None = None) -> None:
        preferred = precision or ("int8" if bundle.manifest.target == "cpu" else "fp32")
        self.refused: list[str] = []
        self._by_leads: dict[tuple[str, ...], tuple[VariantSpec, Runner]] = {}
        windows = [v for v in bundle.manifest.variants if v.stream is None]
        if not windows:
            raise EngineError(
                f"{bundle.source} holds streaming forms only; a bed takes windows: export with --form both"
            )
        for leads in dict.fromkeys(v.leads for v in windows):
            specs = [v for v in windows if v.leads == leads]
            specs.sort(key=lambda v: v.precision != preferred)
            self._by_leads[leads] = self._open_first(bundle, specs)
        self._order = sorted(self._by_leads, key=len, reverse=True)

    def _open_first(self, bundle: Bundle, specs: list[VariantSpec]) -> tuple[VariantSpec, Runner]:
        reasons: list[str] = []
        for spec in specs:
            try:
                runner = open_runner(bundle, spec)
            except EngineError as error:
                reasons.append(str(error))
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
