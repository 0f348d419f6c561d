"""Numbers read in one go are what Python reads one by one; times are what the standard says."""

import math
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecgedge.hl7.numbers import read_numbers, read_time, write_numbers, write_time

# What numbers are made of, in orders that are none, too.
TOKENS = st.text("0123456789.-+e ", max_size=6) | st.sampled_from(
    ["1.5", "-2", ".5", "-.25", "7.", "-0.000", "123456789012345", "1234567890123456", "99999999999999999999"]
)


def one_by_one(text, separator):
    values = []
    for part in text.split(separator):
        values.append(float(part) if part.strip() not in ("", '""') else math.nan)
        if math.isinf(values[-1]):
            raise ValueError(part)
    return np.array(values)


def outcome(read, *args):
    try:
        return read(*args).tolist()
    except ValueError:
        return "refused"


@given(st.lists(TOKENS, min_size=1, max_size=8), st.sampled_from("^~*"))
@example(["1-2", "3"], "^")
@example(["1.2.3", "4"], "^")
@example(["1.2.3", "4", "5."], "^")
@example(["-", "1"], "^")
@example(["-."], "^")
@example([""], "^")
@example(["1e400"], "^")
def test_any_text_reads_as_python_reads_it(tokens, separator):
    text = separator.join(tokens)
    expected = outcome(one_by_one, text, separator)
    read = outcome(read_numbers, text.encode(), separator.encode())
    assert (read == "refused") == (expected == "refused")
    if read != "refused":
        np.testing.assert_array_equal(read, expected)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1), st.integers(0, 6))
def test_decimals_read_exactly(values, decimals):
    texts = [f"{value:.{decimals}f}" for value in values]
    assert read_numbers("^".join(texts).encode()).tolist() == [float(text) for text in texts]


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1), st.integers(0, 6))
def test_written_counts_read_back_exactly(counts, decimals):
    text = write_numbers(np.array(counts), decimals)
    assert read_numbers(text.encode()).tolist() == [count / 10**decimals for count in counts]


@pytest.mark.parametrize("wrong", ["1^x", "1^inf", "1^-inf", "1^1_0", "1^0x10", "1^1,5", "1^2 3", "1^\xff"])
def test_what_is_no_number_is_named(wrong):
    with pytest.raises(ValueError, match="is no number"):
        read_numbers(wrong.encode("latin-1"))


def test_what_was_not_measured_is_nan():
    np.testing.assert_array_equal(
        read_numbers(b'1^^-2.5^""^NaN^'), [1, math.nan, -2.5, math.nan, math.nan, math.nan]
    )


UTC = timezone.utc


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("20260124131540.1234+0800", datetime(2026, 1, 24, 5, 15, 40, 123400, UTC)),
        ("20260124131540250+0800", datetime(2026, 1, 24, 5, 15, 40, 250000, UTC)),
        ("20260124131540-0330", datetime(2026, 1, 24, 16, 45, 40, 0, UTC)),
        ("202601241315", datetime(2026, 1, 24, 11, 15, 0, 0, UTC)),
        ("20260124", datetime(2026, 1, 23, 22, 0, 0, 0, UTC)),
    ],
)
def test_times(text, time):
    assert read_time(text, timezone(timedelta(hours=2))) == time


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026",
        "202601",
        "20261301",
        "20260124251540",
        "20260124131540+9900",
        "00010101+1200",
        "now",
        "²0260124",
    ],
)
def test_what_is_no_time_is_named(text):
    with pytest.raises(ValueError, match=r"is no time|names no day"):
        read_time(text)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.timezones()))  # noqa: DTZ001 (aware by `timezones`)
def test_written_times_read_back_to_a_tenth_of_a_millisecond(time):
    assert timedelta(0) <= time - read_time(write_time(time)) < timedelta(microseconds=100)
