"""Every state that the page can be in, as what a server says: for pictures, for axe, for layout."""

from __future__ import annotations

import math

from page_rig import LEADS, now_ms, placed

HOUR_MS = 3_600_000
WITHOUT_LA = tuple(lead for lead in LEADS if lead != "II")
"""What is lost where the electrode LA is off."""


def estimate(**change):
    """A valid estimate, or what it is changed to."""
    plain = {
        "type": "estimate",
        "t_s": 600.0,
        "mpcwp_mmhg": 14.2,
        "interval_mmhg": [9.1, 19.6],
        "p_gt_15": 0.4,
        "p_gt_18": 0.16,
        "validity": "valid",
        "reason": None,
        "sqi": 0.93,
        "leads": list(LEADS),
        "variant": "12 leads int8",
        "latency_ms": 11.0,
        "mode": "real",
    }
    return {**plain, **change}


def alarm(condition="MPCWP_ELEVATED", **change):
    """An alarm that calls."""
    plain = {
        "type": "alarm",
        "t_s": 600.0,
        "condition": condition,
        "kind": "physiological",
        "priority": "low",
        "presence": "on",
        "signal": "on",
        "text": "28 of 30 valid windows in 300 s, median 21.4 mmHg",
    }
    return {**plain, **change}


def technical(condition, text, **change):
    return alarm(condition, kind="technical", text=text, **change)


INVALID = estimate(
    mpcwp_mmhg=None, interval_mmhg=None, p_gt_15=None, p_gt_18=None, validity="invalid", variant=None, sqi=0.2,
    leads=[], reason="flat: V1,V2; noise: V3,V4,V5,V6",
)  # fmt: skip


def trend_of(hours=24.0, points=2000, *, end_ms=None):
    """A course that rises above the threshold and has two spans without a valid estimate."""
    end_ms = now_ms() if end_ms is None else end_ms
    trend = {key: [] for key in ("t_ms", "mpcwp_mmhg", "low", "high", "p_gt_18", "validity", "reason")}
    for i in range(points):
        left_h = hours * (1 - i / (points - 1))
        valid = not (0.35 < left_h < 0.45 or 5 < left_h < 6.5)
        value = (
            14
            + 5 / (1 + math.exp(2 * (left_h - 3)))
            + 1.2 * math.sin(7 * left_h)
            + 0.5 * math.sin(97 * left_h)
        )
        trend["t_ms"].append(end_ms - left_h * HOUR_MS)
        trend["mpcwp_mmhg"].append(value if valid else None)
        trend["low"].append(value - 5.2 if valid else None)
        trend["high"].append(value + 5.4 if valid else None)
        trend["p_gt_18"].append(0.6 if valid else None)
        trend["validity"].append("valid" if valid else "invalid")
        trend["reason"].append(None if valid else "noise: II")
    return trend


def past_events():
    """A history with an alarm that came and was acknowledged."""
    now = now_ms()
    came = {**alarm(t_s=100.0), "wall_ms": now - 0.7 * HOUR_MS}
    seen = {**alarm(t_s=400.0, signal="acknowledged", user="Nurse Seven"), "wall_ms": now - 0.6 * HOUR_MS}
    feed = {
        "type": "feed",
        "t_s": 50.0,
        "state": "connected",
        "lead": None,
        "age_s": None,
        "wall_ms": now - 0.9 * HOUR_MS,
    }
    gap = {
        "type": "feed",
        "t_s": 90.0,
        "state": "gap",
        "lead": None,
        "age_s": 1.4,
        "wall_ms": now - 0.8 * HOUR_MS,
    }
    return [placed(event) for event in (feed, gap, came, seen)]


def feed(state, lead=None, age_s=None):
    return {"type": "feed", "t_s": 610.0, "state": state, "lead": lead, "age_s": age_s}


def _live(rig):
    rig.say(estimate())


def _gap(rig):
    rig.say(estimate(validity="questionable", reason="gap: all leads", sqi=0.6))
    rig.say(technical("GAP", "windows lack 4 % of a lead's samples"))
    rig.leap_samples = 400
    rig.say(feed("gap", age_s=0.8))


def _lead_off(rig):
    lost = WITHOUT_LA
    rig.off.update(lost)
    rig.say(estimate(leads=["II"], variant="1/int8", interval_mmhg=[6.0, 23.1], p_gt_18=0.24))
    for lead in lost:
        rig.say(feed("lead_off", lead))
    rig.say(technical("LEAD_OFF", f"leads off: {','.join(lost)} (electrode LA)"))


def _invalid(rig):
    rig.say(INVALID)
    rig.say(technical("POOR_SIGNAL", "no usable window for 60 s"))


def _elevated(priority):
    def play(rig):
        rig.say(estimate(mpcwp_mmhg=26.8, interval_mmhg=[21.0, 32.4], p_gt_18=0.97))
        rig.say(technical("CLOCK_UNSYNC", "no time server has held the clock for 60 s"))
        rig.say(technical("SATURATED", "at the limit: V2", signal="acknowledged", user="Nurse Seven"))
        rig.say(alarm(priority=priority))

    return play


def _technical(rig):
    rig.playing = False
    rig.health = {**rig.health, "feed": {"alive": False, "age_s": 14.0}, "queue": 12}
    rig.say(technical("FEED_LOST", "no samples for 2 s", priority="medium"))
    rig.say(feed("lost", age_s=2.0))


def _acknowledged(rig):
    _elevated("medium")(rig)
    rig.say(technical("CLOCK_UNSYNC", "no time server", signal="acknowledged", user="Nurse Seven"))
    rig.say(alarm(priority="medium", signal="acknowledged", user="Nurse Seven"))


def _latched(rig):
    rig.say(estimate())
    rig.say(alarm(presence="off", signal="latched"))


def _paused(rig):
    _elevated("medium")(rig)
    rig.say(
        {
            "type": "audio",
            "t_s": 600.0,
            "state": "paused",
            "ends_s": 720.0,
            "text": "sound paused for 120 s",
            "user": "Nurse Seven",
        }
    )


def _expired(rig):
    rig.say(estimate())
    rig.say({"type": "expired", "t_s": 1300.0, "since_s": 700.0, "reason": "no estimate for 600 s"})


def _dead(rig):
    rig.say(estimate())
    rig.beating = False


def _demo(rig):
    rig.say(estimate(mode="demo"))


SCENES = {
    "live": _live, "gap": _gap, "lead_off": _lead_off, "invalid": _invalid, "low": _elevated("low"),
    "medium": _elevated("medium"), "high": _elevated("high"), "technical": _technical,
    "acknowledged": _acknowledged, "latched": _latched, "paused": _paused, "expired": _expired, "dead": _dead,
    "demo": _demo,
}  # fmt: skip
"""What makes each state, once the page is live."""

HELLO_OF = {"demo": {"mode": "demo", "simulated": True}}
"""What the server's greeting differs in."""


def tiles(beds):
    """A ward: some alarms of each priority, some beds without feed, the rest calm."""
    made = []
    for i, bed in enumerate(beds):
        worst = None
        feed_state = "connected"
        if i % 16 == 5:
            worst = alarm(priority=("high", "medium", "low")[i // 16 % 3])
        elif i % 16 == 9:
            worst, feed_state = technical("FEED_LOST", "no samples for 2 s"), "lost"
        elif i % 16 == 11:
            worst = technical(
                "LEAD_OFF", "leads off: V1 (electrode V1)", signal="acknowledged", user="Nurse Seven"
            )
        pressure = 9 + (i * 7) % 19
        shown = (
            INVALID
            if i % 13 == 12
            else estimate(mpcwp_mmhg=pressure, interval_mmhg=[pressure - 5, pressure + 5])
        )
        tile = {"type": "tile", "bed": bed, "estimate": {**shown, "wall_ms": now_ms()}, "worst": worst}
        off = ["V1"] if i % 16 == 11 else []
        made.append({**tile, "active": int(worst is not None), "feed": feed_state, "leads_off": off})
    return made
