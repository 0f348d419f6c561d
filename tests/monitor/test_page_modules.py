"""The page's own modules, called in Chromium: what has no picture is held to numbers here."""

import json
import zipfile
from pathlib import Path

import pytest
from browser import chromium, evaluate_module, opened
from page_rig import LEADS, MISSING, STATIC, PageRig, block, now_ms, real_ecg
from page_scenes import WITHOUT_LA, alarm, estimate, technical

from ecgedge.electrodes import describe_blame

MOST_BYTES = 100_000


@pytest.fixture(scope="module")
def page(ecg_data):
    """A page whose server sends no samples of its own."""
    rig = PageRig(real_ecg(ecg_data))
    rig.playing = False
    rig.start()
    with chromium() as browser, opened(browser, rig.url) as shown:
        shown.locator(".lead-labels > span").nth(11).wait_for()
        yield shown
    rig.stop()


def call(page, module, expression, **values):
    """The value of an expression of module `m` and of JSON values by name."""
    given = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
    return evaluate_module(page, module, f"{{ {given} return {expression}; }}")


def test_a_block_is_read_as_it_was_written_and_a_damaged_one_is_not(page):
    import numpy as np

    sent = list(block(np.array([[1, -2], [300, MISSING]], np.int16), t_s=12.5, seq=7))
    read = "((b) => b && {...b, counts: [...b.counts]})(m.decodeBlock(new Uint8Array(bytes).buffer))"
    got = call(page, "protocol.js", read, bytes=sent)
    assert (got["leads"], got["samples"], got["tS"], got["seq"]) == (2, 2, 12.5, 7)
    assert got["mvPerCount"] == pytest.approx(1e-3)
    assert got["counts"] == [1, -2, 300, MISSING]
    for damaged in (sent[:-1], sent[:31], [9, *sent[1:]], [], [1, 2, *sent[2:]]):
        assert call(page, "protocol.js", read, bytes=damaged) is None


@pytest.mark.parametrize("text", ["", "[1]", "null", "{}", '{"type":3}', "{"])
def test_a_text_that_is_no_message_is_none(page, text):
    assert call(page, "protocol.js", "m.decodeText(text)", text=text) is None


@pytest.mark.parametrize("leads", [1, 2, 3, 6, 8, 12])
@pytest.mark.parametrize(("width", "height"), [(330, 420), (930, 350), (2000, 780), (2000, 300)])
def test_every_lead_has_a_cell_of_its_own_inside_the_screen(page, leads, width, height):
    found = call(page, "layout.js", "m.layoutLeads(n, w, h)", n=leads, w=width, h=height)
    boxes = [(c["x"], c["y"], c["x"] + c["width"], c["y"] + c["height"]) for c in found["cells"]]
    assert len(set(boxes)) == leads
    assert min(box[0] for box in boxes) >= found["pulsePx"] - 1e-6
    assert max(box[2] for box in boxes) <= width + 1e-6
    assert max(box[3] for box in boxes) <= height + 1e-6
    assert found["columns"] * found["rows"] >= leads


SQUARE = """(() => {
  const context = document.createElement('canvas').getContext('2d');
  const [width, height, ratio] = [900, 300, 2];
  const layout = l.layoutLeads(1, width, height);
  const perSweep = Math.round(layout.cells[0].width / layout.mmPx / 25 * 500);
  const pen = new m.Pen(context);
  pen.restart(1);
  pen.setPlan({width, height, ratio, layout, perSweep, rateHz: 500, ink: {trace: '#fff', off: '#888', gap: '#fff1'}});
  pen.heard.fill(1590); // as after its time constant, at 0 mV
  const block = (tS, counts) => ({leads: 1, samples: counts.length, tS, sentMs: 7, mvPerCount: 0.001,
                                  counts: Int16Array.from(counts)});
  const wave = Array.from({length: 400}, (_, i) => i % 100 < 50 ? 500 : -500);
  pen.push(block(0, wave));
  pen.push(block(1.2, wave.slice(0, 200)));
  const sent = pen.draw();
  const {width: w, height: h} = context.canvas, data = context.getImageData(0, 0, w, h).data;
  const columns = [];
  for (let x = 0; x < w; x++) {
    let top = -1, bottom = -1;
    for (let y = 0; y < h; y++) if (data[4 * (y * w + x) + 3] > 128) {
      if (top < 0) top = y;
      bottom = y;
    }
    columns.push([top, bottom]);
  }
  return {columns, sent, mmPx: layout.mmPx * ratio, left: layout.cells[0].x * ratio};
})()"""


def test_the_trace_has_25_mm_a_second_10_mm_a_millivolt_and_a_gap_is_empty(page):
    found = evaluate_module(page, "pen.js", f"import('/static/layout.js').then((l) => {SQUARE})")
    assert found["sent"] == [7, 7]
    columns, mm_px, left = found["columns"], found["mmPx"], found["left"]

    def drawn(from_s, to_s):
        return columns[round(left + from_s * 25 * mm_px) : round(left + to_s * 25 * mm_px)]

    first = drawn(0.0, 0.78)
    assert all(top >= 0 for top, _ in first)
    height_px = max(bottom for _, bottom in first) - min(top for top, _ in first)
    assert height_px == pytest.approx(
        10 * mm_px, abs=0.05 * 10 * mm_px
    )  # 1 mV, less what the high-pass takes
    assert all(top == -1 for top, _ in drawn(0.83, 1.17))
    assert all(top >= 0 for top, _ in drawn(1.21, 1.55))
    edges = [x for x, (top, bottom) in enumerate(first) if bottom - top > 7 * mm_px]
    assert edges[-1] - edges[0] == pytest.approx(0.6 * 25 * mm_px, abs=0.1 * mm_px + 3)  # 0.1 s to 0.7 s


def test_a_missing_sample_breaks_the_line_and_a_lost_message_is_counted(page):
    counted = evaluate_module(
        page,
        "main.js",
        """(() => {
          const {sweep} = m.page;
          sweep.setLeads(['I', 'II'], 500);
          const before = sweep.stats.holes;
          const send = (seq, tS) => sweep.push({leads: 2, samples: 2, tS, sentMs: 0, mvPerCount: 1, seq,
                                                counts: Int16Array.of(0, 0, -32768, 0)});
          send(100, 5); send(101, 5.004); send(104, 5.016);
          return sweep.stats.holes - before;
        })()""",
    )
    assert counted == 2


@pytest.mark.parametrize("off", [WITHOUT_LA, ("V3",), ("V1", "V2"), LEADS])
def test_the_electrode_is_read_from_what_the_engine_says(page, off):
    blamed = describe_blame(off, LEADS)
    text = f"leads off: {','.join(off)} ({blamed})"
    assert call(page, "main.js", "m.electrodeOf(text)", text=text) == blamed.partition(" ")[2]


def test_no_electrode_is_made_up(page):
    assert call(page, "main.js", "m.electrodeOf(text)", text="leads off: aVF") is None


def test_alarms_that_nobody_has_seen_stand_first_then_by_priority_then_the_patient(page):
    alarms = [
        technical("CLOCK_UNSYNC", "", t_s=9.0),
        alarm(signal="latched", t_s=1.0),
        alarm("MPCWP_RISING", t_s=2.0),
        technical("FEED_LOST", "", priority="medium", signal="acknowledged"),
        technical("FLAT", "", priority="high"),
    ]
    order = call(page, "alarms.js", "alarms.sort(m.byUrgency).map((a) => a.condition)", alarms=alarms)
    assert order == ["FLAT", "MPCWP_RISING", "CLOCK_UNSYNC", "MPCWP_ELEVATED", "FEED_LOST"]


@pytest.mark.parametrize(
    ("change", "age_s", "state", "value"),
    [
        ({}, 3, "valid", "14"),
        ({"validity": "questionable", "reason": "hum: V1"}, 3, "questionable", "14"),
        ({}, 40, "old", "14"),
        ({}, 601, "expired", "--"),
        ({"validity": "invalid", "mpcwp_mmhg": None}, 3, "invalid", "--"),
        ({"expired": "no estimate for 600 s"}, 3, "expired", "--"),
    ],
)
def test_what_is_shown_of_an_estimate(page, change, age_s, state, value):
    now = now_ms()
    event = {**estimate(**change), "wall_ms": now - 1000 * age_s}
    shown = call(page, "numbers.js", "m.describeEstimate(event, now, 600)", event=event, now=now)
    assert (shown["state"], shown["value"]) == (state, value)
    assert (value == "--") == (shown["interval"] == "")
    assert bool(shown["reason"]) == (state != "valid")


def test_invalid_spans_begin_where_the_last_valid_point_was(page):
    points = [{"atMs": at, "valid": at in (0, 3, 5)} for at in range(6)]
    assert call(page, "plot.js", "m.invalidSpans(points)", points=points) == [[0, 2], [3, 4]]


def test_points_are_joined_but_over_none_that_lacks_a_number_and_over_no_hole_in_time(page):
    minute = 60_000
    values = [(0, 1), (1, 2), (2, None), (3, 3), (4, 4), (12, 5)]
    points = [{"atMs": at * minute, "value": value} for at, value in values]
    found = call(page, "plot.js", "m.runs(points).map((run) => run.map((p) => p.value))", points=points)
    assert found == [[1, 2], [3, 4], [5]]


def test_a_trend_keeps_a_point_a_step_for_a_day(page):
    step = """(() => {
      const {trend} = m.page, add = (at_ms, mpcwp_mmhg) => trend.add({at_ms, mpcwp_mmhg,
        validity: mpcwp_mmhg === null ? "invalid" : "valid", interval_mmhg: null});
      trend.points = [];
      for (const [at, value] of said) add(at * 1000, value);
      return trend.points.map(({atMs, value}) => [atMs / 1000, value]);
    })()"""
    said = [[0, 9], [2, 10], [4, None], [31, None], [33, 11], [86_420, 12]]
    assert call(page, "main.js", step, said=said) == [[33, 11], [86_420, 12]]


def test_waiting_doubles_up_to_a_bound_and_is_spread(page):
    waits = call(page, "connection.js", "[0, 1, 2, 3, 4, 5, 9].map((n) => m.backoffMs(n, 0.5))")
    assert waits == [500, 1000, 2000, 4000, 8000, 8000, 8000]
    assert call(page, "connection.js", "[m.backoffMs(0, 0), m.backoffMs(0, 1)]") == [375, 625]
    assert call(page, "connection.js", "m.SILENCE_MS") == 2000


def test_the_more_urgent_the_more_pulses_and_the_sooner_again(page):
    found = call(page, "tone.js", "['high', 'medium', 'low', 'none'].map(m.pattern)")
    assert [None if p is None else len(p["at"]) for p in found] == [10, 3, 2, None]
    assert found[0]["everyMs"] < found[1]["everyMs"] < found[2]["everyMs"]


def test_a_health_strip_tells_in_words_what_is_wrong(page):
    health = {
        "heartbeat": 4, "viewers": 1, "cpu_percent": 97.0, "memory_mb": 90.0, "disk_free_gb": 0.4,
        "clock_synchronised": False, "beds": {"bed1": {"feed": {"alive": False, "age_s": 7.2}, "queue": 0}},
    }  # fmt: skip
    items = call(
        page,
        "health.js",
        "m.describeHealth(health, 'bed1', {holes: 3, p99Ms: null, dropped: 0})",
        health=health,
    )
    told = {item["name"]: (item["value"], item["state"]) for item in items}
    assert told["Feed"] == ("no samples for 7 s", "bad")
    assert told["CPU"][1] == told["Clock"][1] == told["Blocks lost"][1] == "warn"
    assert told["Disk free"][1] == "bad"
    assert told["Latency p50/p99"] == ("--/-- ms", "good")
    for waiting, state in [(400, "good"), (5000, "warn")]:  # a ward takes whole hops
        health["beds"]["bed1"]["queue"] = waiting
        items = call(page, "health.js", "m.describeHealth(health, 'bed1', {})", health=health)
        assert (str(waiting), state) in {(item["value"], item["state"]) for item in items}


def test_each_lead_is_judged_by_its_own_samples(page):
    judge = "[{low: 0, high: 900, missing: 0, railed: 0}, {low: 5, high: 9, missing: 0, railed: 0}," \
        " {low: 0, high: 900, missing: 30, railed: 0}, {low: 0, high: 32767, missing: 0, railed: 500}," \
        " {low: 0, high: 0, missing: 1000, railed: 0}].map((t) => m.judge(t, 1000, 0.001))"  # fmt: skip
    assert call(page, "leads.js", judge) == ["ok", "flat", "gaps 3 %", "limit", "no data"]


def test_all_that_a_page_loads_is_small_and_packed_in_the_wheel(wheel):
    files = sorted(path.name for path in STATIC.iterdir())
    with zipfile.ZipFile(wheel) as packed:
        room = "ecgedge/monitor/static/"
        entries = {Path(e.filename).name: e for e in packed.infolist() if e.filename.startswith(room)}
    assert sorted(entries) == files
    assert sum(entry.file_size for entry in entries.values()) < MOST_BYTES


def test_nothing_is_fetched_from_elsewhere_and_nothing_stands_inline():
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text
        assert ".innerHTML" not in text
        if path.suffix == ".html":
            assert "<style" not in text
            assert " style=" not in text
            assert " on" not in text.replace(" on ", "").replace(" only", "").replace(" one", "")
