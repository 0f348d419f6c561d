"""Which leads an electrode takes along, and which electrode the leads that are off tell of: as tables."""

from itertools import combinations

import pytest

from ecgedge.electrodes import blame, describe_blame, leads_lost
from ecgedge.leads import STANDARD_LEADS

CHEST = STANDARD_LEADS[6:]
BUT_I = tuple(lead for lead in STANDARD_LEADS if lead != "I")
BUT_II = tuple(lead for lead in STANDARD_LEADS if lead != "II")
ELECTRODES = ("RA", "LA", "LL", "RL", *CHEST)


@pytest.mark.parametrize(
    ("off", "kept"),
    [
        ((), STANDARD_LEADS),
        (("RA",), ()),
        (("LA",), ("II",)),
        (("LL",), ("I",)),
        (("RL",), ()),
        (("LA", "LL"), ()),
        (("V4",), tuple(lead for lead in STANDARD_LEADS if lead != "V4")),
        (CHEST, STANDARD_LEADS[:6]),
    ],
)
def test_leads_lost(off, kept):
    assert leads_lost(off) == tuple(lead for lead in STANDARD_LEADS if lead not in kept)


@pytest.mark.parametrize(
    ("off", "leads", "expected"),
    [
        ((), STANDARD_LEADS, ()),
        (BUT_II, STANDARD_LEADS, (("LA",),)),
        (BUT_I, STANDARD_LEADS, (("LL",),)),
        (STANDARD_LEADS, STANDARD_LEADS, (("RA",), ("RL",))),
        (("V1",), STANDARD_LEADS, (("V1",),)),
        (("V2", "V5"), STANDARD_LEADS, (("V2", "V5"),)),
        (CHEST, STANDARD_LEADS, (CHEST,)),
        (("aVF",), STANDARD_LEADS, ()),  # made of I and II, which are there
        (("I", "II"), STANDARD_LEADS, ()),  # whatever takes both takes all
        (("I",), ("I", "II"), (("LA",),)),
        (("II",), ("I", "II"), (("LL",),)),
        (("I", "II"), ("I", "II"), (("RA",), ("RL",))),
        (("II",), ("II",), (("RA",), ("LL",), ("RL",))),
        (("I",), ("I", "II", "V1"), ()),  # without LA, V1 has no terminal
        (("I", "V1"), ("I", "II", "V1"), (("LA",),)),
        (("V1",), ("V1",), (("RA",), ("LA",), ("LL",), ("RL",), ("V1",))),
    ],
)
def test_blame(off, leads, expected):
    assert set(blame(off, leads)) == set(expected)
    assert len(blame(off, leads)) == len(expected)


@pytest.mark.parametrize("leads", [STANDARD_LEADS, ("I", "II"), ("I", "II", "V1"), ("II", "V2", "V5")])
def test_what_is_blamed_takes_these_leads_and_nothing_smaller_does(leads):
    """Against trying every set of electrodes."""
    for size in range(1, len(ELECTRODES)):
        for off in combinations(ELECTRODES, size):
            lost = tuple(lead for lead in leads if lead in leads_lost(off))
            if not lost:
                continue
            found = blame(lost, leads)
            assert found
            sizes = {len(electrodes) for electrodes in found}
            assert len(sizes) == 1
            assert sizes.pop() <= size
            for electrodes in found:
                assert tuple(lead for lead in leads if lead in leads_lost(electrodes)) == lost


def test_a_lead_that_is_not_measured_cannot_be_off():
    with pytest.raises(ValueError, match="V1 cannot be off: measured are I,II"):
        blame(("V1",), ("I", "II"))


@pytest.mark.parametrize(
    ("off", "leads", "text"),
    [
        (BUT_II, STANDARD_LEADS, "electrode LA"),
        (STANDARD_LEADS, STANDARD_LEADS, "electrode RA or RL"),
        (("V2", "V5"), STANDARD_LEADS, "electrodes V2 and V5"),
        (("aVF",), STANDARD_LEADS, None),
        ((), STANDARD_LEADS, None),
    ],
)
def test_it_is_said_in_words(off, leads, text):
    assert describe_blame(off, leads) == text
