"""The bed of a simulated patient, and a sink that keeps what it gets."""

import pytest
from service_run import RATE_HZ, Kept

from ecgedge.leads import STANDARD_LEADS
from ecgedge.stream import Bed


@pytest.fixture
def bed(bundle, variants):
    return Bed(bundle, leads=STANDARD_LEADS, rate_hz=RATE_HZ, variants=variants, mode="demo")


@pytest.fixture
def sink():
    return Kept()
