from __future__ import annotations

import base64
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from ecgedge.bundle import ResultRow
from ecgedge.errors import EcgedgeError, RecordError
from ecgedge.schema import from_plain
from ecgedge_train.dataset import open_dataset
from ecgedge_train.evaluate import LinearProbe, Report, evaluate_run, load_probes, write_report
from ecgedge_train.evaluate.binary import BinaryScores, BinarySplit
from ecgedge_train.evaluate.chart import Chart, draw, to_svg
from ecgedge_train.evaluate.plots import roc_chart, scatter_chart
from ecgedge_train.evaluate.pressure import PressureScores
from ecgedge_train.evaluate.report import REPORT_HTML, REPORT_JSON, Section, Table
from ecgedge_train.evaluate.values import ValueScores
from ecgedge_train.loop import train
from ecgedge_train.recipe import load_recipe

ROWS = (
    ResultRow("sim", "12", "auroc_gt_18", 0.8, 0.7, 0.9, 0.5, 60),
    ResultRow("sim", "12", "rmse_mmhg", 7.0, None, None, 8.2, 60),
    ResultRow("sim", "12", "rmse_mmhg | sex=female", 6.5, 5.0, 8.0, 8.0, 30),
)


def report(*, simulated: bool) -> Report:
    return Report("run <1> & co", simulated, "sim", "ab" * 32, "attribution & licence", ROWS, ("a note",))


def pressure_scores(n: int = 200) -> ValueScores:
    rng = np.random.default_rng(0)
    truth = rng.normal(15, 8, n)
    predicted = truth + rng.normal(0, 5, n)
    probability = {cut: 1 / (1 + np.exp(cut - predicted)) for cut in (15, 18)}
    return PressureScores("I,II", truth, predicted, probability, None, 0.9, 15.0, None).as_values()


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
    write_report(
        report(simulated=True), [draw(scatter_chart(pressure_scores()), mark="SIMULATED DATA")], tmp_path
    )
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
    marked, plain = (draw(scatter_chart(pressure_scores()), mark=mark) for mark in ("SIMULATED DATA", ""))
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
    figure = draw(scatter_chart(pressure_scores()))
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}
    identity = lines["_nolegend_"]
    assert (identity[:, 0] == identity[:, 1]).all()
    assert (lines["mean of the training split"][:, 1] == 15.0).all()


def test_the_roc_that_is_drawn_has_the_area_that_is_written():
    rng = np.random.default_rng(1)
    truth, p = rng.integers(0, 2, 300) > 0, np.round(rng.random(300), 1)
    split = BinarySplit(truth, p, p, np.arange(300))
    figure = draw(roc_chart([("MI", BinaryScores("12", "MI", split, split))], title=""))
    line = figure.axes[0].get_lines()[0]
    area = np.trapezoid(line.get_ydata(), line.get_xdata())
    assert float(re.search(r"MI: (\S+)", str(line.get_label()))[1]) == pytest.approx(area, abs=6e-4)


def test_equal_figures_give_equal_bytes():
    assert to_svg(draw(scatter_chart(pressure_scores()))) == to_svg(draw(scatter_chart(pressure_scores())))


def test_a_figure_stands_in_the_section_that_its_chart_names(tmp_path):
    sections = (Section("Pressure", "how to read it", (Table("T", ("a", "b"), (("x", None),)),)),)
    figures = [draw(scatter_chart(pressure_scores()))]
    write_report(replace(report(simulated=False), sections=sections), figures, tmp_path)
    page = (tmp_path / REPORT_HTML).read_text()
    places = [
        page.index(text) for text in ("<h2>Pressure</h2>", "how to read it", "<img", "<td>-</td>", "<h2>Data")
    ]
    assert places == sorted(places)


def test_a_plot_can_be_redrawn_from_the_json(tmp_path):
    chart = scatter_chart(pressure_scores())
    write_report(replace(report(simulated=False), charts=(chart,)), [], tmp_path)
    again = from_plain(Chart, json.loads((tmp_path / REPORT_JSON).read_text())["charts"][0])
    assert to_svg(draw(again)) == to_svg(draw(chart))


def test_the_baseline_of_a_probe_is_the_untrained_encoder(tmp_path):
    write_report(replace(report(simulated=False), probed=True), [], tmp_path)
    assert "0.500 untrained" in (tmp_path / REPORT_HTML).read_text()


@pytest.fixture(scope="module")
def runs(simulated, ptbxl, tmp_path_factory):
    """A run of each kind after two steps."""
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


def test_two_runs_are_compared_on_the_questions_they_share(runs, simulated, tmp_path):
    evaluate_run(
        runs / "pressure",
        data=simulated.directory,
        out=tmp_path,
        lead_sets=(("I",),),
        resamples=20,
        against=runs / "pclr",
        low_labels=True,
    )
    plain = json.loads((tmp_path / REPORT_JSON).read_text())
    sections = {section["title"]: section for section in plain["sections"]}
    assert list(sections) == ["Discrimination", "Pressure", "Calibration", "Operating points", "Subgroups",
                              "Embedding", "Few labels", "Comparison"]  # fmt: skip
    compared = sections["Comparison"]["tables"][0]["rows"]
    assert [row[1] for row in compared] == ["auroc_gt_15", "auroc_gt_18"]
    for row in compared:
        assert row[4]["value"] == pytest.approx(row[2] - row[3])
    assert {chart["section"] for chart in plain["charts"]} == set(sections) - {"Comparison"}


def test_a_run_against_itself_differs_by_nothing(runs, simulated, tmp_path):
    run = runs / "pressure"
    evaluate_run(run, data=simulated.directory, out=tmp_path, lead_sets=(("I",),), resamples=20, against=run)
    sections = json.loads((tmp_path / REPORT_JSON).read_text())["sections"]
    compared = next(s for s in sections if s["title"] == "Comparison")["tables"][0]["rows"]
    assert [row[1] for row in compared] == ["auroc_gt_15", "auroc_gt_18", "rmse_mmhg"]
    assert all((row[4]["value"], row[4]["low"], row[4]["high"]) == (0, 0, 0) for row in compared)


def test_options_that_do_not_fit_are_refused(runs, simulated, tmp_path):
    run = runs / "pressure"
    options = {"data": simulated.directory, "out": tmp_path, "lead_sets": (("I",),), "resamples": 2}
    weights = tmp_path / "weights.csv"
    weights.write_text(",426783006\n426783006,1\n")
    with pytest.raises(RecordError, match="scored on pressure"):
        evaluate_run(run, **options, cinc_weights=weights)
    with pytest.raises(RecordError, match="no class here is one of the challenge"):
        evaluate_run(runs / "pclr", **options, cinc_weights=weights)


def test_umap_is_named_when_it_is_missing(runs, simulated, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(EcgedgeError, match="pip install umap-learn"):
        evaluate_run(
            runs / "pressure",
            data=simulated.directory,
            out=tmp_path,
            lead_sets=(("I",),),
            resamples=2,
            embedding_map="umap",
        )
