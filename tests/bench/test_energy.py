"""Counters and lines as machines write them, and no number where there is none."""

import os
import time

import pytest

from ecgedge.bench.energy import RaplMeter, TegrastatsMeter, find_meter, rapl_joules, tegrastats_mw

ORIN_NANO = (
    "07-14-2025 10:29:36 RAM 2147/7620MB (lfb 2x4MB) SWAP 1476/3810MB (cached 1MB) CPU [0%@729,0%@729,0%@729,0%@729,"
    "0%@729,0%@729] GR3D_FREQ 0% cpu@47.687C soc2@46.718C soc0@47.468C gpu@48.625C tj@48.625C soc1@48.25C "
    "VDD_IN 4556mW/4501mW VDD_CPU_GPU_CV 483mW/483mW VDD_SOC 1451mW/1451mW"
)
AGX_ORIN = (
    "RAM 4023/30536MB (lfb 5555x4MB) SWAP 0/15268MB (cached 0MB) CPU [0%@1190,0%@1190,off,off] EMC_FREQ 0%@2133 "
    "GR3D_FREQ 0%@[0,0] cpu@45.5C tj@45.5C VDD_GPU_SOC 3188mW/3188mW VDD_CPU_CV 1195mW/1195mW VIN_SYS_5V0 3229mW/3229mW"
)
NANO = (
    "RAM 1903/3956MB (lfb 264x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [9%@102,5%@102,off,off] "
    "EMC_FREQ 0% GR3D_FREQ 0% PLL@37C CPU@40C PMIC@100C GPU@38C AO@45.5C thermal@39C POM_5V_IN 1642/1642 "
    "POM_5V_GPU 0/0 POM_5V_CPU 161/161"
)


@pytest.mark.parametrize(
    ("line", "power_mw"),
    [
        (ORIN_NANO, 4556.0),
        (AGX_ORIN, 3188.0 + 1195.0 + 3229.0),
        (NANO, 1642.0),
        (AGX_ORIN.replace("VDD_CPU_CV", "VDD_OTHER"), None),
        ("RAM 2147/7620MB (lfb 2x4MB) SWAP 1476/3810MB", None),
        ("", None),
        ("Cannot get VDD_IN", None),
    ],
    ids=["Orin Nano", "AGX Orin", "Nano", "a part is missing", "no power", "empty", "complaint"],
)
def test_tegrastats(line, power_mw):
    assert tegrastats_mw(line) == power_mw


def test_rapl_counters_wrap():
    assert rapl_joules([1_000_000, 5], [3_500_000, 5], [10**12, 10**12]) == pytest.approx(2.5)
    assert rapl_joules([262_143_328_849], [1_000_000], [262_143_328_850]) == pytest.approx(1.000002)


def _package(folder, name, energy_uj, mode=0o644):
    zone = folder / name
    zone.mkdir()
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    (zone / "energy_uj").chmod(mode)
    return zone


def test_rapl_reads_whole_packages_only(tmp_path):
    package = _package(tmp_path, "intel-rapl:0", 1_000_000)
    _package(tmp_path, "intel-rapl:0:0", 700_000)
    (tmp_path / "intel-rapl").mkdir()
    meter = find_meter(tmp_path)
    assert isinstance(meter, RaplMeter)
    meter.start()
    (package / "energy_uj").write_text("4000000\n")
    assert meter.stop() == pytest.approx(3.0)


def test_nothing_readable_gives_no_meter(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_meter(tmp_path) is None
    zone = _package(tmp_path, "intel-rapl:0", 0)
    (zone / "energy_uj").write_text("")
    assert find_meter(tmp_path) is None


def test_tegrastats_is_run_between_start_and_stop(tmp_path, monkeypatch):
    """A program of that name that writes recorded lines, as the real one does, until it is stopped."""
    program = tmp_path / "tegrastats"
    program.write_text(f"#!/bin/sh\necho '{ORIN_NANO}'\necho 'garbage'\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    meter = find_meter(tmp_path / "none")
    assert isinstance(meter, TegrastatsMeter)
    assert meter.stop() is None
    meter.start()
    while not meter._lines:
        time.sleep(0.01)
    joules = meter.stop()
    assert joules is not None
    assert joules > 0


def test_a_long_measurement_is_read_to_its_end(tmp_path):
    """More lines than a pipe holds: the last of them count as well."""
    program = tmp_path / "tegrastats"
    program.write_text(
        "#!/bin/sh\nyes 'VDD_IN 1000mW/1000mW' | head -n 20000\n"
        f"yes 'VDD_IN 3000mW/3000mW' | head -n 20000\ntouch {tmp_path}/written\nexec sleep 60\n"
    )
    program.chmod(0o755)
    meter = TegrastatsMeter(str(program))
    meter.start()
    while not (tmp_path / "written").exists():
        time.sleep(0.01)
    assert meter.stop() > 0
    assert [meter._lines.count(f"VDD_IN {mw}mW/{mw}mW\n") for mw in (1000, 3000)] == [20000, 20000]


def test_tegrastats_that_says_nothing_gives_nothing():
    meter = TegrastatsMeter("/bin/cat")  # waits for input, or complains about its arguments
    meter.start()
    assert meter.stop() is None
