"""LEAD_OFF: leads that are off, told of once they have been off for the policy's `lead_off_s`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ecgedge.alarms.signals import Signals
from ecgedge.electrodes import describe_blame
from ecgedge.events import AlarmEvent
from ecgedge.leads import STANDARD_LEADS
from ecgedge.policy import AlarmPolicy


class LeadsOff:
    """The leads of one stream that are off, and since when.

    Parameters
    ----------
    policy
        How long a lead must be off.
    leads
        What the feed measures; with them the condition says which electrode explains the leads that are off.
    signals
        Where the condition is told.
    since_s, told
        Where to go on; no lead is off by default.

    Attributes
    ----------
    told
        Leads that LEAD_OFF tells of, in standard order.
    due_s
        When `tell` is due.
    """

    __slots__ = (
        "_delay_s",
        "_leads",
        "_signals",
        "_since_s",
        "due_s",
        "told",
    )

    def __init__(
        self,
        policy: AlarmPolicy,
        leads: Sequence[str],
        signals: Signals,
        *,
        since_s: Mapping[str, float] | None = None,
        told: Sequence[str] = (),
    ) -> None:
        self._delay_s, self._leads, self._signals = policy.lead_off_s, tuple(leads), signals
        self.told = tuple(told)
        self._wait(since_s or {})

    @property
    def since_s(self) -> Mapping[str, float]:
        """Leads that are off and not yet told, and since when."""
        return self._since_s

    def go_off(self, lead: str, t_s: float) -> None:
        """Take that a lead is off."""
        if lead not in self._since_s and lead not in self.told:
            self._wait({**self._since_s, lead: t_s})

    def come_on(self, lead: str, t_s: float) -> list[AlarmEvent]:
        """Take that a lead is on."""
        self._wait({name: s for name, s in self._since_s.items() if name != lead})
        return self._tell_of(tuple(x for x in self.told if x != lead), t_s) if lead in self.told else []

    def tell(self, due_s: float) -> list[AlarmEvent]:
        """Move all leads that are due together (an electrode carries several leads) into LEAD_OFF."""
        due = {lead for lead, since_s in self._since_s.items() if since_s + self._delay_s <= due_s}
        self._wait({lead: s for lead, s in self._since_s.items() if lead not in due})
        off = due | set(self.told)
        return self._tell_of(tuple(lead for lead in STANDARD_LEADS if lead in off), due_s)

    def _wait(self, since_s: Mapping[str, float]) -> None:
        self._since_s = since_s
        self.due_s = min(since_s.values(), default=math.inf) + self._delay_s

    def _tell_of(self, leads: tuple[str, ...], t_s: float) -> list[AlarmEvent]:
        """Change the set of leads that LEAD_OFF tells of: one event a change; more leads off is worse."""
        worse = len(leads) > len(self.told)
        self.told = leads
        blamed = describe_blame(leads, self._leads) if set(leads) <= set(self._leads) else None
        off = f"leads off: {','.join(leads)}" + (f" ({blamed})" if blamed else "")
        text = off if leads else "all leads on again"
        if not leads or not self._signals.present("LEAD_OFF"):
            return self._signals.set_presence("LEAD_OFF", t_s, on=bool(leads), text=text)
        return self._signals.change("LEAD_OFF", t_s, worse=worse, text=text)
