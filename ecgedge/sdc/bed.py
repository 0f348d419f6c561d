"""One bed as an SDC provider: estimates as calculated metrics, alarms as alert conditions with their signals.

Source: ISO/IEEE 11073-10207 (BICEPS): NumericMetricDescriptor, MetricQuality, LimitAlertConditionDescriptor,
AlertSignalDescriptor, SetAlertStateOperationDescriptor. A consumer acknowledges by proposing a signal's presence Ack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final
from xml.sax.saxutils import escape

from ecgedge.ecg import Mode
from ecgedge.errors import UsageError
from ecgedge.events import Alarm, Estimate, Event, Expired, SelfCheck
from ecgedge.mdc import MMHG, NO_UNIT, WEDGE_PRESSURE
from ecgedge.sdc.library import Library

OWN_SYSTEM: Final = "urn:ecgedge:codes"
"""Names the codes that the nomenclature does not have."""

MPCWP: Final = "mpcwp"
NOTE: Final = "mPCWP, estimated from the ECG: not a measurement. Research use only."

_METRICS: Final = (
    (MPCWP, "", NOTE, MMHG, "0.01"),
    ("mpcwp.low", "MPCWP_INTERVAL_LOW", "Lower end of the interval", MMHG, "0.01"),
    ("mpcwp.high", "MPCWP_INTERVAL_HIGH", "Upper end of the interval", MMHG, "0.01"),
    ("p15", "P_MPCWP_GT_15", "Probability of mPCWP above 15 mmHg", NO_UNIT, "0.001"),
    ("p18", "P_MPCWP_GT_18", "Probability of mPCWP above 18 mmHg", NO_UNIT, "0.001"),
)
LIMITED: Final = "MPCWP_ELEVATED"
_PHYSIOLOGICAL: Final = (LIMITED, "MPCWP_RISING")
_HIGHEST_MMHG: Final = 100
_VALIDITY: Final = {"valid": "Vld", "questionable": "Qst", "invalid": "Inv"}
_PRIORITY: Final = {"none": "None", "low": "Lo", "medium": "Me", "high": "Hi"}
_SIGNAL: Final = {"on": "On", "off": "Off", "latched": "Latch", "acknowledged": "Ack"}
_MODES: Final[dict[Mode, str]] = {"real": "Real", "test": "Test", "demo": "Demo"}


def bed_mds(bed: str, conditions: Mapping[str, bool], *, lifetime_s: float) -> str:
    """Return a bed's MDS as XML.

    Parameters
    ----------
    conditions
        By name, whether it latches.
    lifetime_s
        After which a number may not be shown any more (LifeTimePeriod).
    """
    metrics = "".join(_metric(*row, lifetime_s=lifetime_s) for row in _METRICS)
    alerts = "".join(map(_condition, conditions)) + "".join(
        _signal(name, latches=latches) for name, latches in conditions.items()
    )
    operations = "".join(_operation(name) for name in conditions)
    return (
        f'<pm:Mds Handle="bed" SafetyClassification="Inf">{_type("BED", f"Bed {bed}")}'
        f'<pm:AlertSystem Handle="alerts" SelfCheckPeriod="PT5S">{alerts}</pm:AlertSystem>'
        f'<pm:Sco Handle="operations">{operations}</pm:Sco>'
        '<pm:SystemContext Handle="context"><pm:PatientContext Handle="patient"/>'
        '<pm:LocationContext Handle="location"/></pm:SystemContext>'
        f'<pm:Vmd Handle="estimates"><pm:Channel Handle="pressures">{metrics}</pm:Channel></pm:Vmd>'
        "</pm:Mds>"
    )


def _type(code: str, text: str) -> str:
    return (
        f'<pm:Type Code="{code}" CodingSystem="{OWN_SYSTEM}"><pm:ConceptDescription Lang="en">{escape(text)}'
        "</pm:ConceptDescription></pm:Type>"
    )


def _metric(handle: str, code: str, text: str, unit: str, resolution: str, *, lifetime_s: float) -> str:
    concept = f'<pm:ConceptDescription Lang="en">{escape(text)}</pm:ConceptDescription>'
    kind = _type(code, text) if code else f'<pm:Type Code="{WEDGE_PRESSURE}">{concept}</pm:Type>'
    return (
        f'<pm:Metric xsi:type="pm:NumericMetricDescriptor" Handle="{handle}" MetricCategory="Clc" '
        f'MetricAvailability="Intr" DerivationMethod="Auto" LifeTimePeriod="PT{lifetime_s:g}S" '
        f'Resolution="{resolution}">{kind}<pm:Unit Code="{unit}"/></pm:Metric>'
    )


def _condition(name: str) -> str:
    kind = "Phy" if name in _PHYSIOLOGICAL else "Tec"
    head = f'Handle="{name}" Kind="{kind}" Priority="Lo">{_type(name, name)}'
    source = f"<pm:Source>{MPCWP}</pm:Source>" if name in _PHYSIOLOGICAL else ""
    if name == LIMITED:
        limits = f'<pm:MaxLimits Lower="0" Upper="{_HIGHEST_MMHG}"/>'
        return (
            f'<pm:AlertCondition xsi:type="pm:LimitAlertConditionDescriptor" {head}{source}{limits}'
            "</pm:AlertCondition>"
        )
    return f'<pm:AlertCondition xsi:type="pm:AlertConditionDescriptor" {head}{source}</pm:AlertCondition>'


def _signal(name: str, *, latches: bool) -> str:
    return (
        f'<pm:AlertSignal Handle="{signal_of(name)}" ConditionSignaled="{name}" Manifestation="Vis" '
        f'Latching="{str(latches).lower()}" AcknowledgementSupported="true"/>'
    )


def _operation(name: str) -> str:
    return (
        f'<pm:Operation xsi:type="pm:SetAlertStateOperationDescriptor" Handle="{operation_of(name)}" '
        f'OperationTarget="{signal_of(name)}"><pm:ModifiableData>Presence</pm:ModifiableData></pm:Operation>'
    )


def signal_of(condition: str) -> str:
    """Return the handle of a condition's signal."""
    return f"signal.{condition}"


def operation_of(condition: str) -> str:
    """Return the handle of the operation that acknowledges a condition."""
    return f"acknowledge.{condition}"


class BedStates:
    """Writes what a bed says into its provider's states; on any one thread at a time.

    Parameters
    ----------
    mdib, pm_types
        The provider's, and the types of the library's data model.
    mode
        Of the bed's samples.
    limit_mmhg
        The threshold that MPCWP_ELEVATED tells of.
    """

    def __init__(self, mdib: Any, pm_types: Any, *, mode: Mode, limit_mmhg: float) -> None:
        self._mdib, self._types = mdib, pm_types
        self._mode = pm_types.GenerationMode(_MODES[mode])
        self._begin(limit_mmhg)

    def take(self, event: Event) -> None:
        """Take an event; those without a form in SDC are passed over."""
        if isinstance(event, Estimate):
            self._estimate(event)
        elif isinstance(event, Expired):
            self._metrics({}, "NA", 0.0)
        elif isinstance(event, Alarm):
            self._alarm(event)
        elif isinstance(event, SelfCheck):
            self._self_check(event)

    def _begin(self, limit_mmhg: float) -> None:
        """All is off, and no number is there yet."""
        types = self._types
        self._metrics({}, "NA", 0.0)
        with self._mdib.alert_state_transaction() as changes:
            for handle in self._mdib.descriptions.handle:
                node = self._mdib.descriptions.handle.get_one(handle)
                if not (node.is_alert_descriptor or node.is_alert_signal_descriptor):
                    continue
                state = changes.get_state(handle)
                state.ActivationState = types.AlertActivation.ON
                if handle == LIMITED:
                    state.Limits = types.Range(upper=Decimal(str(limit_mmhg)))
                    state.MonitoredAlertLimits = types.AlertConditionMonitoredLimits.LOW_OFF

    def _estimate(self, estimate: Estimate) -> None:
        low, high = estimate.interval_mmhg or (None, None)
        values = {
            MPCWP: estimate.mpcwp_mmhg,
            "mpcwp.low": low,
            "mpcwp.high": high,
            "p15": estimate.p_gt_15,
            "p18": estimate.p_gt_18,
        }
        found = {handle: value for handle, value in values.items() if value is not None}
        self._metrics(found, _VALIDITY[estimate.validity], estimate.sqi)

    def _metrics(self, values: Mapping[str, float], validity: str, quality: float) -> None:
        """Write all metrics; those without a value have none, and are not available where the others are valid."""
        types = self._types
        with self._mdib.metric_state_transaction() as changes:
            for handle, *_, resolution in _METRICS:
                state = changes.get_state(handle)
                state.ActivationState = types.ComponentActivation.ON
                if state.MetricValue is None:
                    state.mk_metric_value()
                value = values.get(handle)
                said = "NA" if value is None and validity in ("Vld", "Qst") else validity
                exact = None if value is None else Decimal(str(value)).quantize(Decimal(resolution))
                state.MetricValue.Value = exact
                state.MetricValue.MetricQuality.Validity = types.MeasurementValidity(said)
                state.MetricValue.MetricQuality.Qi = Decimal(str(round(quality, 3)))
                state.MetricValue.MetricQuality.Mode = self._mode

    def _alarm(self, alarm: Alarm) -> None:
        types = self._types
        with self._mdib.alert_state_transaction() as changes:
            condition = changes.get_state(alarm.condition)
            condition.Presence = alarm.presence == "on"
            condition.ActualPriority = types.AlertConditionPriority(_PRIORITY[alarm.priority])
            signal = changes.get_state(signal_of(alarm.condition))
            signal.Presence = types.AlertSignalPresence(_SIGNAL[alarm.signal])
            paused = alarm.audible == "paused"
            signal.ActivationState = types.AlertActivation.PAUSED if paused else types.AlertActivation.ON

    def _self_check(self, check: SelfCheck) -> None:
        with self._mdib.alert_state_transaction() as changes:
            system = changes.get_state("alerts")
            system.LastSelfCheck, system.SelfCheckCount = time.time(), check.count


def acknowledging(library: Library, conditions: Iterable[str], take: Callable[[str], None]) -> type[Any]:
    """Return the library's role provider that hands a condition whose signal a consumer acknowledges to `take`.

    What `take` raises is the reason with which the operation fails.
    """
    names = {operation_of(name): name for name in conditions}

    class Acknowledging:
        def __init__(self, mdib: Any, registry: Any, log_prefix: str) -> None:
            del log_prefix
            self._mdib, self._registry = mdib, registry

        def init_operations(self) -> None:
            for handle, name in names.items():
                self._registry.register_operation(
                    library.operations.SetAlertStateOperation(handle, signal_of(name), self._execute)
                )

        def stop(self) -> None:
            """Nothing runs here."""

        def _execute(self, given: Any) -> Any:
            proposed = given.operation_request.argument
            if proposed.Presence != library.pm_types.AlertSignalPresence.ACK:
                raise UsageError(f"the presence {proposed.Presence} cannot be set; Ack can")
            name = names[given.operation_instance.handle]
            take(name)
            finished = self._mdib.data_model.msg_types.InvocationState.FINISHED
            return library.operations.ExecuteResult(finished, self._mdib.mdib_version_group, signal_of(name))

    return Acknowledging
