"""The bedside story in one minute: two simulated beds side by side, then one real ECG.

Everything runs on the embedded bundle, with no network and no training framework. The patients are
simulated and the bundle was trained on simulated patients, so nothing here is evidence of anything but that
the line works.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ecgedge.bundle import EMBEDDED, RESEARCH_USE_ONLY, Bundle, load_bundle
from ecgedge.ecg import Recording
from ecgedge.errors import UsageError
from ecgedge.events import Alarm, Estimate
from ecgedge.leads import STANDARD_LEADS
from ecgedge.records import read
from ecgedge.sim import DEFAULT_SEED, Simulator
from ecgedge.sinks.text import format_time
from ecgedge.stream import Bed, Variants

RATE_HZ = 250.0
STEP_S = 60.0
"""Stream time between two drawings of the table."""

RISE_MMHG = 25.0
"""The alarm's delay is counted from the moment at which the latent pressure passes this."""

_STYLE = {"high": "bold red", "medium": "bold yellow", "low": "bold cyan", "none": ""}


@dataclass
class _Patient:
    """A simulated patient in a bed, and what has been seen of it."""

    scenario: str
    simulator: Simulator
    bed: Bed
    estimate: Estimate | None = None
    alarms: list[Alarm] = field(default_factory=list)
    rose_s: float | None = None

    def step(self, t_s: float) -> None:
        samples_mv = self.simulator.read(round(STEP_S * RATE_HZ))
        for event in self.bed.push(samples_mv, t_s=t_s):
            if isinstance(event, Estimate):
                self.estimate = event
            elif isinstance(event, Alarm):
                self.alarms.append(event)
        if self.rose_s is None and self.simulator.mpcwp_mmhg(t_s + STEP_S) >= RISE_MMHG:
            self.rose_s = t_s + STEP_S

    @property
    def onset(self) -> Alarm | None:
        """The first onset of the mPCWP alarm."""
        onsets = (a for a in self.alarms if a.condition == "MPCWP_ELEVATED" and a.presence == "on")
        return next(onsets, None)


def run_demo(*, speed: float = 720.0, seed: int = DEFAULT_SEED, hours: float = 3.5) -> None:
    """Show two simulated beds and one real ECG on the terminal.

    Parameters
    ----------
    speed
        How many times faster than real time the beds run, as far as the machine can.
    seed
        Which simulated patients.
    hours
        Simulated hours.

    Raises
    ------
    UsageError
        If `speed` is not above 0.
    """
    if not speed > 0.0:
        raise UsageError(f"--speed is {speed:g}; it must be above 0, for example 720")
    console = Console()
    bundle = load_bundle(EMBEDDED)
    console.print(f"[bold]ecgedge demo[/bold]  {RESEARCH_USE_ONLY}")
    console.print("Two SIMULATED patients; the bundle was trained on SIMULATED patients.\n")
    with Variants(bundle) as variants:
        patients = [_admit(scenario, seed, bundle, variants) for scenario in ("stable", "decompensating")]
        _play(patients, console, speed=speed, duration_s=hours * 3600)
        console.print()
        console.print(_story(patients, hours * 3600))
        _real_ecg(bundle, variants, console)


def _admit(scenario: str, seed: int, bundle: Bundle, variants: Variants) -> _Patient:
    simulator = Simulator(scenario, seed=seed, rate_hz=RATE_HZ)
    bed = Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, mode="demo")
    return _Patient(scenario, simulator, bed)


def _play(patients: list[_Patient], console: Console, *, speed: float, duration_s: float) -> None:
    started = time.monotonic()
    with Live(_table(patients, 0.0), console=console, refresh_per_second=8, transient=False) as live:
        for k in range(round(duration_s / STEP_S)):
            t_s = k * STEP_S
            for patient in patients:
                patient.step(t_s)
            live.update(_table(patients, t_s + STEP_S))
            ahead_s = (t_s + STEP_S) / speed - (time.monotonic() - started)
            time.sleep(max(0.0, ahead_s))


def _table(patients: list[_Patient], t_s: float) -> Table:
    table = Table(title=f"DEMO, simulated patients, {format_time(t_s)} of stream time", expand=False)
    for column in ("bed", "latent mPCWP", "estimate (90 % interval)", "p(>18)", "validity", "alarm"):
        table.add_column(column)
    for patient in patients:
        latent = f"{patient.simulator.mpcwp_mmhg(t_s):.1f} mmHg"
        table.add_row(patient.scenario, latent, *_shown(patient.estimate), _alarm_text(patient.alarms))
    return table


def _shown(estimate: Estimate | None) -> tuple[str, str, str]:
    if estimate is None or estimate.mpcwp_mmhg is None:
        return "--", "--", "waiting" if estimate is None else f"invalid: {estimate.reason}"
    low, high = estimate.interval_mmhg or (float("nan"), float("nan"))
    p = "--" if estimate.p_gt_18 is None else f"{estimate.p_gt_18:.2f}"
    return f"{estimate.mpcwp_mmhg:.1f} mmHg ({low:.0f} to {high:.0f})", p, estimate.validity


def _alarm_text(alarms: list[Alarm]) -> str:
    latest = {alarm.condition: alarm for alarm in alarms}
    shown = [a for a in latest.values() if a.signal != "off"]
    return "\n".join(f"[{_STYLE[a.priority]}]{a.condition} ({a.priority})[/]" for a in shown) or "none"


def _story(patients: list[_Patient], duration_s: float) -> str:
    lines = []
    for patient in patients:
        onset = patient.onset
        if patient.rose_s is None:
            seen = "no mPCWP alarm" if onset is None else f"FALSE alarm at {format_time(onset.t_s)}"
            lines.append(f"{patient.scenario}: {seen} in {duration_s / 3600:g} simulated hours.")
        elif onset is None:
            lines.append(
                f"{patient.scenario}: MISSED; no alarm although the latent mPCWP reached {RISE_MMHG:g}."
            )
        else:
            delay_min = (onset.t_s - patient.rose_s) / 60
            when = f"{delay_min:.0f} min after" if delay_min >= 0 else f"{-delay_min:.0f} min before"
            lines.append(
                f"{patient.scenario}: alarm at {format_time(onset.t_s)}, {when} the latent mPCWP passed "
                f"{RISE_MMHG:g} mmHg (it was {patient.simulator.mpcwp_mmhg(onset.t_s):.1f} mmHg then). {onset.text}."
            )
    lines.append("Other simulated patients are missed or give false alarms: see the table in the README.")
    return "\n".join(lines) + "\n"


def _real_ecg(bundle: Bundle, variants: Variants, console: Console) -> None:
    """Run pydicom's packaged 12-lead waveform through the same bundle."""
    recording = _packaged_ecg()
    if recording is None:
        console.print("One real ECG: left out; install it with: pip install 'ecgedge[records]'", markup=False)
        return
    bed = Bed(bundle, leads=recording.leads, rate_hz=recording.rate_hz, variants=variants, mode="real")
    events = bed.push(recording.samples_mv, t_s=0.0)
    estimate = next(e for e in events if isinstance(e, Estimate))
    number, p, validity = _shown(estimate)
    doubt = f" ({estimate.reason})" if estimate.reason else ""
    console.print(
        f"One real ECG ({recording.rate_hz:g} Hz, {recording.duration_s:g} s, DICOM): {number}, p(>18) {p}, "
        f"{validity}{doubt}, variant {estimate.variant}, mode {estimate.mode}."
    )
    console.print(
        "This model has only seen simulated patients: its answer to a real ECG means nothing clinical."
    )


def _packaged_ecg() -> Recording | None:
    try:
        from pydicom.data import get_testdata_file
    except ModuleNotFoundError:
        return None
    path = get_testdata_file("waveform_ecg.dcm", download=False)
    return None if path is None else read(str(path))
