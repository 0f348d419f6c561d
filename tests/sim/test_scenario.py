"""Scenarios: what is promised about the pressure."""

import dataclasses

import numpy as np
import pytest

from ecgedge.electrodes import leads_lost
from ecgedge.errors import UsageError
from ecgedge.sim import SCENARIOS
from ecgedge.sim.scenario import PressureCourse, find_scenario


def course(name, seed=1):
    pressure = PressureCourse(find_scenario(name), seed=seed)
    minutes = np.arange(0.0, 300.0)
    return minutes, np.array([pressure(60.0 * minute) for minute in minutes])


def test_the_four_scenarios_are_there():
    assert set(SCENARIOS) == {"stable", "decompensating", "noisy", "lead-off"}
    assert all(name == scenario.name and scenario.description for name, scenario in SCENARIOS.items())


@pytest.mark.parametrize("seed", range(5))
def test_stable_stays_near_ten(seed):
    _, mmhg = course("stable", seed)
    np.testing.assert_allclose(mmhg, 10.0, atol=1.0)
    assert np.ptp(mmhg) > 0.3


@pytest.mark.parametrize("seed", range(5))
def test_decompensating_rises_and_stays(seed):
    minutes, mmhg = course("decompensating", seed)
    np.testing.assert_allclose(mmhg[minutes <= 30], 10.0, atol=1.0)
    np.testing.assert_allclose(mmhg[minutes == 75], 19.0, atol=1.0)
    np.testing.assert_allclose(mmhg[minutes >= 120], 28.0, atol=1.0)


def test_pressure_depends_on_the_seed_only():
    assert course("stable", 1)[1].tolist() == course("stable", 1)[1].tolist()
    assert course("stable", 1)[1].tolist() != course("stable", 2)[1].tolist()


def test_noisy_is_noisier_in_every_way():
    quiet, noisy = find_scenario("stable").noise, find_scenario("noisy").noise
    for field in dataclasses.fields(quiet):
        assert getattr(noisy, field.name) > getattr(quiet, field.name)


def test_lead_off_reaches_each_kind_of_loss():
    scenario = find_scenario("lead-off")
    off = {interval.electrode for interval in scenario.off}
    assert {"V3", "LL", "RA", "RL"} <= off
    assert all(interval.end_s < scenario.off_period_s for interval in scenario.off)
    assert all(leads_lost({electrode}) for electrode in off)


def test_unknown_scenario_lists_the_known():
    with pytest.raises(UsageError, match="stable, decompensating, noisy, lead-off"):
        find_scenario("unstable")


def test_scenarios_cannot_be_changed():
    with pytest.raises(TypeError):
        SCENARIOS["mine"] = SCENARIOS["stable"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        SCENARIOS["stable"].name = "x"
