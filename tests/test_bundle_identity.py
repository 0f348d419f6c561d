"""The id of canonical JSON: whatever the content, it is the hash of it without the id."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgedge.bundle.identity import decode_with_id, encode_with_id
from ecgedge.errors import BundleError

KEYS = st.sampled_from(["a", "id", "ic", "ie", "z", 'an "id"'])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
    | st.just('\n "id": "x",\n'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
CONTENTS = st.dictionaries(KEYS.filter(lambda key: key != "id"), VALUES, max_size=4)


@given(plain=CONTENTS)
def test_the_id_is_the_hash_of_the_content_alone(plain):
    own_id, data = encode_with_id(plain)
    alone = json.dumps(plain, sort_keys=True, indent=1) + "\n"
    assert own_id == hashlib.sha256(alone.encode()).hexdigest()
    assert decode_with_id(data, place="m") == (own_id, plain)


@given(plain=CONTENTS.filter(bool), other=st.sampled_from(["0" * 64, "", None, ["x"], 1]))
def test_another_id_is_refused(plain, other):
    data = json.dumps({"id": other, **plain}, sort_keys=True, indent=1) + "\n"
    with pytest.raises(BundleError, match="was altered"):
        decode_with_id(data.encode(), place="m")


@given(plain=CONTENTS, at=st.integers(0, 2000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused(plain, at, bit):
    _, data = encode_with_id(plain)
    flipped = bytearray(data)
    flipped[at % len(data)] ^= 1 << bit
    with pytest.raises(BundleError):
        decode_with_id(bytes(flipped), place="m")
