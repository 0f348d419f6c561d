"""The comparison of two machines finds what differs: a check that cannot fail would prove nothing."""

import copy
import csv

import numpy as np
import pytest
from arm64_compare import compare_measured, compare_rows, read_predictions

TOLERANCES = {"I/fp32": {"mpcwp_mmhg": 1e-3, "p_gt_15": 1e-4, "p_gt_18": 1e-4}}
ESTIMATE = {
    "type": "estimate",
    "t_s": 10.0,
    "mpcwp_mmhg": 15.0,
    "interval_mmhg": [5.0, 25.0],
    "p_gt_15": 0.5,
    "p_gt_18": 0.25,
    "validity": "valid",
    "reason": None,
    "sqi": 0.97,
    "leads": ["I"],
    "variant": "I/fp32",
    "latency_ms": 2.0,
    "mode": "demo",
}
ALARM = {"type": "alarm", "t_s": 11.0, "condition": "LEAD_OFF", "presence": "on", "text": "leads off: V3"}
ROWS = [ESTIMATE, ALARM]


def changed(index, name, value):
    rows = copy.deepcopy(ROWS)
    rows[index][name] = value
    return rows


def test_equal_rows_agree():
    found = compare_rows(ROWS, copy.deepcopy(ROWS), TOLERANCES)
    assert found.complaints == ()
    assert {gap.name: gap.largest for gap in found.gaps} == dict.fromkeys(
        ["interval_mmhg", "mpcwp_mmhg", "p_gt_15", "p_gt_18", "sqi"], 0.0
    )


@pytest.mark.parametrize(
    ("name", "inside", "beyond"),
    [
        ("mpcwp_mmhg", 15.0009, 15.0011),
        ("interval_mmhg", [5.0, 25.0009], [5.0, 25.0011]),
        ("p_gt_15", 0.50009, 0.50011),
        ("p_gt_18", 0.24991, 0.24989),
        ("sqi", 0.97 + 1e-10, 0.97 + 1e-8),
    ],
)
def test_numbers_may_differ_within_the_tolerance(name, inside, beyond):
    assert compare_rows(ROWS, changed(0, name, inside), TOLERANCES).complaints == ()
    (complaint,) = compare_rows(ROWS, changed(0, name, beyond), TOLERANCES).complaints
    assert complaint.startswith(f"{name} differs by")


@pytest.mark.parametrize(
    ("index", "name", "value"),
    [
        (0, "t_s", 15.0),
        (0, "validity", "questionable"),
        (0, "reason", "settling"),
        (0, "variant", "II/fp32"),
        (0, "leads", ["II"]),
        (0, "mode", "real"),
        (0, "mpcwp_mmhg", None),
        (0, "interval_mmhg", [5.0]),
        (1, "t_s", 11.004),
        (1, "condition", "POOR_SIGNAL"),
        (1, "presence", "off"),
        (1, "text", "leads off: V2"),
        (1, "new", 1),
    ],
)
def test_everything_else_must_be_equal(index, name, value):
    (complaint,) = compare_rows(ROWS, changed(index, name, value), TOLERANCES).complaints
    assert complaint.startswith(f"row {index} ")
    assert f": {name} is " in complaint


def test_a_row_too_few_is_said():
    assert compare_rows(ROWS, ROWS[:1], TOLERANCES).complaints == ("2 rows here, 1 there",)


def test_what_is_no_number_is_said():
    there = [*copy.deepcopy(ROWS), {**ESTIMATE, "p_gt_15": float("nan")}]
    (complaint,) = compare_rows([*ROWS, ESTIMATE], there, TOLERANCES).complaints
    assert complaint.startswith("p_gt_15 differs by inf")


def test_an_array_of_another_shape_is_said():
    there = measured(**{"counts/a": np.zeros((2, 1), np.int16)})
    (complaint,) = compare_measured(measured(), there).complaints
    assert complaint == "counts/a is (2, 3000) here and (2, 1) there"


def test_the_clock_is_left_out():
    assert compare_rows(ROWS, changed(0, "latency_ms", 900.0), TOLERANCES).complaints == ()


def test_the_gap_that_is_closest_to_its_limit_is_kept():
    tight = {**TOLERANCES, "II/fp32": {"mpcwp_mmhg": 1e-6, "p_gt_15": 1e-4, "p_gt_18": 1e-4}}
    here = [ESTIMATE, {**ESTIMATE, "variant": "II/fp32"}]
    there = [
        {**ESTIMATE, "mpcwp_mmhg": 15.0005},
        {**ESTIMATE, "variant": "II/fp32", "mpcwp_mmhg": 15.0 + 9e-7},
    ]
    (gap,) = [gap for gap in compare_rows(here, there, tight).gaps if gap.name == "mpcwp_mmhg"]
    assert (gap.compared, gap.allowed) == (2, 1e-6)
    assert gap.largest == pytest.approx(9e-7)


def test_a_table_is_read_as_estimates(tmp_path):
    row = {"t_s": "10.0", "mpcwp_mmhg": "15.5", "low_mmhg": "5.5", "high_mmhg": "25.5", "p_gt_15": "0.5"}
    row |= {"p_gt_18": "", "sqi": "0.9", "validity": "valid", "variant": "I/fp32"}
    with (tmp_path / "table.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(row))
        writer.writeheader()
        writer.writerow(row)
    (read,) = read_predictions(tmp_path / "table.csv")
    assert read["interval_mmhg"] == [5.5, 25.5]
    assert (read["mpcwp_mmhg"], read["p_gt_18"], read["variant"]) == (15.5, "", "I/fp32")


def measured(**changes):
    arrays = {
        "facts": np.array("{}"),
        "counts/a": np.arange(6000, dtype=np.int16).reshape(2, 3000),
        "simulated/a": np.linspace(-5.0, 5.0, 100, dtype=np.float32),
        "output/I/fp32/p": np.array([0.5], np.float32),
        "tolerance/I/fp32/p": np.float64(1e-4),
    }
    return {**arrays, **changes}


def test_the_same_measurements_agree():
    assert compare_measured(measured(), measured()).complaints == ()


def test_a_count_may_lie_on_the_edge_but_not_many_and_never_two_off():
    here = measured()
    one = here["counts/a"].copy()
    one[0, 0] += 1
    assert compare_measured(here, measured(**{"counts/a": one})).complaints == ()
    many = here["counts/a"] + (np.arange(3000) < 10).astype(np.int16)
    (complaint,) = compare_measured(here, measured(**{"counts/a": many})).complaints
    assert "share that differs" in complaint
    one[0, 0] += 1
    (complaint,) = compare_measured(here, measured(**{"counts/a": one})).complaints
    assert "counts/a (counts) differs by 2" in complaint


def test_an_output_beyond_its_tolerance_is_said():
    there = measured(**{"output/I/fp32/p": np.array([0.5002], np.float32)})
    (complaint,) = compare_measured(measured(), there).complaints
    assert complaint.startswith("output/I/fp32/p differs by 0.0002")


def test_an_array_that_is_missing_is_said():
    there = measured()
    del there["counts/a"]
    assert compare_measured(measured(), there).complaints == ("not the same arrays: ['counts/a']",)
