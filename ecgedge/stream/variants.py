"""A bundle's variants, loaded, self-tested, and chosen by the leads that are on now."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType

from ecgedge.bundle import Bundle, Precision, VariantSpec
from ecgedge.runtime import Runner, open_runner


class Variants:
    """Every variant of a bundle behind one choice; several beds may share one.

    Parameters
    ----------
    bundle
        The bundle; each variant's runner must reproduce the bundle's self-test before it may serve.
    precision
        Served where a lead set has it; otherwise the other one.

    Raises
    ------
    EngineError
        If a runner does not agree with the self-test.
    """

    def __init__(self, bundle: Bundle, *, precision: Precision = "int8") -> None:
        self._by_leads: dict[tuple[str, ...], tuple[VariantSpec, Runner]] = {}
        best = {v.leads: v for v in sorted(bundle.manifest.variants, key=lambda v: v.precision == precision)}
        for spec in best.values():
            self._by_leads[spec.leads] = (spec, open_runner(bundle, spec))
        self._order = sorted(self._by_leads, key=len, reverse=True)

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
