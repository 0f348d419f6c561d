from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from ecgedge.bundle import ResultRow
from ecgedge.errors import RecordError
from ecgedge_train.dataset import open_dataset
from ecgedge_train.evaluate import LinearProbe, Report, evaluate_run, load_probes, write_report
from ecgedge_train.evaluate.classes import ClassScores
from ecgedge_train.evaluate.plots import class_figure, scatter_figure, to_svg
from ecgedge_train.evaluate.pressure import PressureScores
from ecgedge_train.evaluate.report import REPORT_HTML, REPORT_JSON
from ecgedge_train.loop import train
from ecgedge_train.recipe import load_recipe

ROWS = (
    ResultRow("sim", "12", "auroc_gt_18", 0.8, 0.7, 0.9, 0.5, 60),
    ResultRow("sim", "12", "rmse_mmhg", 7.0, None, None, 8.2, 60),
    ResultRow("sim", "12", "rmse_mmhg | sex=female", 6.5, 5.0, 8.0, 8.0, 30),
)


def report(*, simulated: bool) -> Report:
    return Report("run <1> & co", simulated, "sim", "ab" * 32, "attribution & licence", ROWS, ("a note",))


def pressure_scores(n: int = 200) -> PressureScores:
    rng = np.random.default_rng(0)
    truth = rng.normal(15, 8, n)
    predicted = truth + rng.normal(0, 5, n)
    probability = {cut: 1 / (1 + np.exp(cut - predicted)) for cut in (15, 18)}
    return PressureScores("I,II", truth, predicted, probability, None, 0.9, 15.0, None)


class Structure(HTMLParser):
    """Collects tags that stay open and every address that a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_one_well_formed_file_without_outside_addresses(tmp_path):
    write_report(report(simulated=True), [scatter_figure(pressure_scores(), mark="SIMULATED DATA")], tmp_path)
    page = (tmp_path / REPORT_HTML).read_text()
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    assert [a[:26] for a in structure.addresses] == ["data:image/svg+xml;base64,"]
    svg = base64.b64decode(structure.addresses[0].split(",")[1]).decode()
    assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314 - made by us a line above
    assert "run &lt;1&gt; &amp; co" in page
    assert "Research use only" in page


def test_simulated_data_is_said_on_the_page_and_in_the_plot(tmp_path):
    write_report(report(simulated=True), [], tmp_path / "sim")
    write_report(report(simulated=False), [], tmp_path / "real")
    assert "<div class=sim role=alert>SIMULATED DATA" in (tmp_path / "sim" / REPORT_HTML).read_text()
    assert "SIMULATED" not in (tmp_path / "real" / REPORT_HTML).read_text()
    assert json.loads((tmp_path / "sim" / REPORT_JSON).read_text())["simulated"] is True
    marked, plain = (scatter_figure(pressure_scores(), mark=mark) for mark in ("SIMULATED DATA", ""))
    assert "SIMULATED DATA" in marked.get_suptitle()
    assert "SIMULATED" not in plain.get_suptitle()


def test_json_holds_every_row_and_the_table_the_intervals(tmp_path):
    write_report(report(simulated=False), [], tmp_path)
    plain = json.loads((tmp_path / REPORT_JSON).read_text())
    assert [row["metric"] for row in plain["rows"]] == [row.metric for row in ROWS]
    page = (tmp_path / REPORT_HTML).read_text()
    assert "0.800 (0.700 to 0.900)" in page
    assert "7.000 (no interval)" in page
    assert "8.200 training mean" in page
    assert "<td><b>0.800</b><br><small>0.700 to 0.900<br>0.500 chance</small></td>" in page
    assert page.index("<details>") < page.index("sex=female")


def test_the_scatter_shows_the_identity_and_the_mean():
    figure = scatter_figure(pressure_scores(), mark="")
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}
    assert (lines["identity"][:, 0] == lines["identity"][:, 1]).all()
    assert (lines["mean of the training split"][:, 1] == 15.0).all()


def test_the_roc_that_is_drawn_has_the_area_that_is_written():
    rng = np.random.default_rng(1)
    truth, p = rng.integers(0, 2, (300, 1)), np.round(rng.random((300, 1)), 1)
    figure = class_figure(ClassScores("12", ("MI",), truth, p), mark="")
    line = figure.axes[0].get_lines()[0]
    area = np.trapezoid(line.get_ydata(), line.get_xdata())
    assert float(re.search(r"MI: (\S+)", str(line.get_label()))[1]) == pytest.approx(area, abs=6e-4)


def test_equal_figures_give_equal_bytes():
    assert to_svg(scatter_figure(pressure_scores(), mark="")) == to_svg(
        scatter_figure(pressure_scores(), mark="")
    )


@pytest.fixture(scope="module")
def runs(simulated, ptbxl, tmp_path_factory):
    """A run of each kind after two steps."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    small = ["data.batch_size=8", "schedule.steps=2", "schedule.warmup_steps=1"]
    for name, recipe, data in (("pressure", "sim_mpcwp", simulated), ("pclr", "ptbxl_pclr_rlm", ptbxl)):
        train(load_recipe(recipe, small), data, folder / name)
    return folder


def test_a_pressure_run_gives_a_marked_report(runs, simulated, tmp_path):
    leads = (("I", "II"), ("V2",))
    text = evaluate_run(
        runs / "pressure", data=simulated.directory, out=tmp_path, lead_sets=leads, resamples=20
    )
    assert "SIMULATED DATA" in text
    assert "Research use only" in text
    rows = json.loads((tmp_path / REPORT_JSON).read_text())["rows"]
    names = {row["metric"] for row in rows if row["lead_set"] == "V2"}  # V2 was calibrated for this report
    assert {"auroc_gt_15", "auroc_gt_18", "auprc_gt_18", "rmse_mmhg", "pearson_r", "ece_gt_18",
            "interval_coverage", "ideal_auroc_gt_18"} <= names  # fmt: skip
    with pytest.raises(RecordError, match="no probe here"):
        load_probes(tmp_path)


def test_a_pretrained_run_gives_probes_that_reproduce_its_report(runs, ptbxl, tmp_path):
    text = evaluate_run(runs / "pclr", data=ptbxl.directory, out=tmp_path, lead_sets=(("I",),), resamples=20)
    assert "SIMULATED" not in text
    probes = load_probes(tmp_path)
    assert list(probes) == ["I"]
    assert isinstance(probes["I"], LinearProbe)
    assert probes["I"].labels == ptbxl.info.classes
    assert "macro_auroc" in text


def test_another_dataset_than_trained_on_is_said(runs, simulated, tmp_path):
    text = evaluate_run(
        runs / "pclr", data=simulated.directory, out=tmp_path, lead_sets=(("I",),), resamples=20
    )
    assert "trained on another dataset (ptbxl" in text
    assert "SIMULATED DATA" in text
    assert load_probes(tmp_path)["I"].labels == ("gt_15", "gt_18")
    assert len(open_dataset(simulated.directory)) == 120
