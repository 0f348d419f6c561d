"""The settings of an address."""

import contextlib
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.query import read_query


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("a", r"'a' is not NAME=VALUE&NAME=VALUE"),
        ("a=1&&b=2", "is not NAME=VALUE"),
        ("colour=red", "the setting colour is unknown; known are a, b"),
        ("a=1&b=2&a=1", "the setting a stands twice"),
        ("A=1", "the setting A is unknown"),
    ],
)
def test_what_cannot_be_read_is_named(query, said):
    with pytest.raises(ValueError, match=said):
        read_query(query, ("a", "b"))


def test_an_address_may_know_no_setting():
    assert read_query("", ()) == {}
    with pytest.raises(ValueError, match="known are none"):
        read_query("a=1", ())


@given(values=st.dictionaries(st.sampled_from(["a", "b", "c d"]), st.text()))
def test_any_value_is_read_as_it_was_written(values):
    assert read_query(urlencode(values, errors="surrogatepass"), ("a", "b", "c d")) == values


@given(query=st.text())
def test_any_text_is_read_or_refused(query):
    with contextlib.suppress(ValueError):
        assert set(read_query(query, ("a",))) <= {"a"}
