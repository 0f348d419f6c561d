"""The sheet of a recording: true to its scale, gaps as gaps, and what it is stands on it."""

import matplotlib.image
import numpy as np
import pytest

from ecgedge.ecg import Recording
from ecgedge.errors import UsageError
from ecgedge.leads import STANDARD_LEADS
from ecgedge_train.sheet import draw_sheet, layout, write_sheet

RATE_HZ = 250.0


def _recording(leads=STANDARD_LEADS, *, length_s=10.0, mode="real", samples_mv=None):
    shape = (len(leads), round(length_s * RATE_HZ))
    return Recording(
        np.zeros(shape, np.float32) if samples_mv is None else samples_mv, RATE_HZ, tuple(leads), mode=mode
    )


def _texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def _traces(figure):
    """Signals in mm, without pulses and the marks between columns."""
    found = [np.stack(line.get_data()) for line in figure.axes[0].lines]
    return [xy for xy in found if xy.shape[1] > 100]


def test_twelve_leads_stand_in_four_columns_over_a_rhythm_strip():
    *rows, rhythm = layout(_recording())
    assert [[strip.lead for strip in row] for row in rows] == [
        ["I", "aVR", "V1", "V4"],
        ["II", "aVL", "V2", "V5"],
        ["III", "aVF", "V3", "V6"],
    ]
    assert [strip.start_s for strip in rows[0]] == [0.0, 2.5, 5.0, 7.5]
    assert [(strip.lead, strip.length_s) for strip in rhythm] == [("II", 10.0)]


@pytest.mark.parametrize(
    ("leads", "length_s", "lines"),
    [(("II",), 10.0, 1), (("II",), 30.0, 3), (("I", "II", "V1"), 30.0, 9), (("I", "II"), 600.0, 12)],
)
def test_fewer_leads_are_strips_that_go_on_below(leads, length_s, lines):
    found = layout(_recording(leads, length_s=length_s))
    assert len(found) == lines
    assert [line[0].lead for line in found[: len(leads)]] == list(leads)


def test_a_start_beyond_the_end_is_refused():
    assert layout(_recording(("II",), length_s=30.0), start_s=25.0)[0][0].start_s == 25.0
    with pytest.raises(UsageError, match=r"--start is 30; the recording lasts 30.0 s"):
        layout(_recording(("II",), length_s=30.0), start_s=30.0)


def test_a_second_is_25_mm_and_a_millivolt_10_mm():
    samples_mv = np.zeros((1, 2500), np.float32)
    samples_mv[0, 1000] = 1.5  # at 4 s
    figure = draw_sheet(_recording(("II",), samples_mv=samples_mv), name="x.hea")
    (trace,) = _traces(figure)
    assert trace[0, 1000] - trace[0, 0] == pytest.approx(100.0)
    assert trace[1, 1000] - trace[1, 0] == pytest.approx(15.0)
    # The axes fill the figure and count millimetres.
    width_mm, height_mm = figure.get_size_inches() * 25.4
    assert figure.axes[0].get_position().bounds == (0.0, 0.0, 1.0, 1.0)
    assert (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) == (
        (0.0, pytest.approx(width_mm)),
        (0.0, pytest.approx(height_mm)),
    )


def test_the_pulse_is_a_millivolt_for_a_fifth_of_a_second():
    figure = draw_sheet(_recording(("II",)), name="x.hea")
    pulse = next(np.stack(line.get_data()) for line in figure.axes[0].lines if len(line.get_xdata()) == 6)
    assert np.ptp(pulse[1]) == pytest.approx(10.0)
    assert pulse[0, 3] - pulse[0, 2] == pytest.approx(5.0)


def test_a_gap_is_a_gap():
    samples_mv = np.zeros((2, 2500), np.float32)
    samples_mv[0, 500:750] = np.nan
    samples_mv[1] = np.nan
    figure = draw_sheet(_recording(("I", "II"), samples_mv=samples_mv), name="x.hea")
    first, second = _traces(figure)
    assert np.isnan(first[1, 500:750]).all()
    assert np.isfinite(first[1, :500]).all()
    assert np.isnan(second[1]).all()
    assert "II  not measured" in _texts(figure)


@pytest.mark.parametrize(("mode", "mark"), [("demo", "SIMULATED"), ("test", "TEST SIGNAL"), ("real", None)])
def test_the_head_says_what_it_is(mode, mark):
    texts = _texts(draw_sheet(_recording(("I", "II"), length_s=25.0, mode=mode), name="night.edf"))
    assert texts[-1].startswith("Research use only")
    assert "night.edf" in texts
    assert "250 Hz   2 leads   0 to 25.0 s of 25.0 s   25 mm/s, 10 mm/mV, no filter" in texts
    assert [text for text in texts if text in ("SIMULATED", "TEST SIGNAL")] == ([mark] if mark else [])


def test_an_artefact_is_cut_at_its_line_and_told():
    samples_mv = np.zeros((2, 2500), np.float32)
    samples_mv[0, 100:400] = 9.0
    figure = draw_sheet(_recording(("I", "II"), samples_mv=samples_mv), name="x.hea")
    assert "a signal leaves its line and is cut there" in _texts(figure)
    assert figure.get_size_inches()[1] * 25.4 < 120.0


@pytest.mark.parametrize(
    ("leads", "length_s"), [(STANDARD_LEADS, 10.0), (STANDARD_LEADS, 30.0), (("I", "II", "V1"), 30.0), (("II",), 7.0)]
)  # fmt: skip
def test_no_text_lies_over_another_or_over_the_edge(leads, length_s):
    figure = draw_sheet(_recording(leads, length_s=length_s, mode="demo"), name="a-long-name-" * 12)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    sheet = figure.bbox
    for number, box in enumerate(boxes):
        assert sheet.x0 <= box.x0 < box.x1 <= sheet.x1
        assert sheet.y0 <= box.y0 < box.y1 <= sheet.y1
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])


def test_it_is_written_as_a_picture(tmp_path):
    write_sheet(_recording(), tmp_path / "ecg.png", name="x.hea")
    pixels = matplotlib.image.imread(tmp_path / "ecg.png")
    assert pixels.shape[1] > 1500
    pink = (pixels[..., 0] > 0.9) & (pixels[..., 1] < 0.9)
    assert pink.mean() > 0.05
