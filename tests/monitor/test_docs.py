"""What docs/page.md says of limits and costs is what the code has and the benchmark found."""

import json
import re
from pathlib import Path

from ecgedge.monitor import (
    access,
    beds,
    commands,
    gate,
    live,
    login,
    server,
    sessions,
    settings,
    trend,
    viewer,
)

REPO = Path(__file__).parents[2]
TEXT = (REPO / "docs" / "page.md").read_text("utf-8")
LIMITS = gate.Limits()


def cell(first):
    (line,) = re.findall(rf"^\| {re.escape(first)}[^|]*\|([^|]*)\|.*$", TEXT, re.MULTILINE)
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", line)]


def test_the_table_of_limits_is_the_codes():
    assert cell("connections, in all") == [LIMITS.most, LIMITS.most_of_address]
    assert cell("from a request's first byte") == [LIMITS.request_s]
    assert cell("a connection that is no WebSocket") == [LIMITS.connection_s]
    assert cell("a TLS handshake") == [gate.TLS_S]
    assert cell("requests of one address") == list(access.REQUESTS)
    for first, (burst, per_s) in (("logins from one", login.OF_ADDRESS), ("logins into one", login.OF_USER)):
        assert cell(first)[0] == burst
        assert cell(first)[-1] == round(1 / per_s)
    assert cell("logins in all") == [*login.OF_ALL, login.AT_ONCE, login.WAITING]
    assert cell("a form") == [server.LARGEST_BODY, login.BODY_S]
    assert cell("a viewer's message |"[:-2] + " ") == [commands.LONGEST_MESSAGE]
    assert cell("a viewer's messages") == [2 * live.MESSAGES_A_SECOND, live.MESSAGES_A_SECOND]
    assert cell("samples that wait") == [viewer.MOST_SAMPLE_BYTES]
    assert cell("events that wait") == [viewer.MOST_TEXTS, viewer.MOST_TEXT_BYTES]


def test_the_words_on_sessions_and_logs_are_the_codes():
    assert f"{sessions.IDLE_S / 60:g} minutes without use" in TEXT
    assert f"after {settings.SHIFT_H:g} hours" in TEXT
    assert "from {:g} to {:g}".format(*settings.SESSION_H) in TEXT
    assert f"last {beds.LOG_EVENTS} events" in TEXT
    assert f"points of {trend.STEP_MS / 1000:g} s" in TEXT


def test_the_figures_are_those_of_the_benchmark():
    found = json.loads((REPO / "benchmarks" / "results" / "page.json").read_text())
    cost = found["cpu_ms_per_bed_second"]
    for words in ("a second without a page", "with a page that nobody watches", "with one viewer"):
        name = {"a": "no_page", "w": "unwatched"}.get(words[0], "") if "viewer" not in words else "one_viewer"
        assert f"{cost[name]:.1f} ms {words}" in TEXT
    assert found["unwatched_over_no_page"] < 1.02
    assert found["messages"]["shown"] == found["messages"]["got_by_the_viewer"]
