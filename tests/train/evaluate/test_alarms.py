"""The plot and the page of replayed alarms."""

import re
from html.parser import HTMLParser

import pytest
from courses import HOP_S, SMALL, course, replayed, stretches

from ecgedge.bundle import RESEARCH_USE_ONLY, load_bundle
from ecgedge.replay import Budget, Episode, GridAxes, Question, judge, make_grid
from ecgedge.replay.report import LITERATURE
from ecgedge_train.evaluate.alarms import REPLAY_HTML, REPLAY_PNG, draw_replay, write_plot

GRID = make_grid(GridAxes((0.6, 0.8, 2.0), (20.0, 60.0), (1.0, 3.0)), SMALL, hop_s=HOP_S)
RISE = (Episode(110.0, 305.0),)
PATIENTS = (
    ("<a>", stretches((20, 0.1), (40, 0.9)), RISE),
    ("b", stretches((20, 0.1), (40, 0.7)), RISE),
    ("c", stretches((20, 0.1), (10, 0.7), (30, 0.1)), ()),
    ("d", stretches((60, 0.1)), ()),
)


def evidence(*, known=True, **question):
    made = [replayed(name, course(p), GRID.replayed) for name, p, _ in PATIENTS]
    episodes = [e if known else None for _, _, e in PATIENTS]
    asked = Question(30.0, resamples=100, **question)
    return judge(made, episodes, GRID, asked, bundle=load_bundle("embedded"), engines=(), source="a <test>")


def named(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_a_curve_for_each_persistence_with_chance_budget_and_choice():
    figure = draw_replay(evidence(budget=Budget(100.0)), [1.0, 3.0])
    assert len(figure.axes) == 2
    assert set(named(figure)) == {
        "alarms at random moments", "persistence 20 s", "persistence 60 s", "budget", "chosen",
        "the bundle's policy, or the one given",
    }  # fmt: skip
    (curve,) = [line for line in figure.axes[0].lines if line.get_label() == "persistence 20 s"]
    # By probability: at 0.6 both are detected and one alarm is false, at 0.8 one is and none is.
    assert curve.get_ydata().tolist() == [1.0, 0.5]
    assert curve.get_xdata().tolist() == pytest.approx([1 / (4 * 305 / 86_400), 0.0])
    assert "SIMULATED" in figure.get_suptitle()
    assert "research use only" in figure.get_suptitle()


def test_policies_that_meet_in_one_place_are_named_once():
    # Nobody is detected and nothing is false: all policies of both persistences lie on 0, 0.
    made = [replayed(name, course((60, 0.1)), GRID.replayed) for name, _, _ in PATIENTS]
    asked = Question(30.0, resamples=100)
    found = judge(
        made, [e for _, _, e in PATIENTS], GRID, asked, bundle=load_bundle("embedded"), engines=(), source="a"
    )
    figure = draw_replay(found, [1.0])
    assert [text.get_text() for text in figure.axes[0].texts] == ["p 0.6 to 0.8"]


def test_without_truth_the_number_of_alarms_is_drawn():
    figure = draw_replay(evidence(known=False), [1.0])
    assert figure.axes[0].get_ylabel() == "alarms per patient-day, true or false"
    assert named(figure) == ["persistence 20 s", "persistence 60 s"]


class Page(HTMLParser):
    """Tags that stay open, addresses, and the words."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize(
    "question", [{}, {"budget": Budget(0.0)}, {"budget": Budget(0.0, "upper")},
                 {"budget": Budget(100.0), "holdout_share": 0.5}]
)  # fmt: skip
def test_the_page_stands_alone_and_says_what_it_is(tmp_path, question):
    found = evidence(**question)
    write_plot(found, tmp_path)
    assert (tmp_path / REPLAY_PNG).read_bytes().startswith(b"\x89PNG")
    page = Page()
    page.feed((tmp_path / REPLAY_HTML).read_text("utf-8"))
    assert page.open == []
    assert len(page.addresses) == 2
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    text = re.sub(r"\s+", " ", " ".join(page.words))
    for words in (
        "SIMULATED DATA",
        RESEARCH_USE_ONLY,
        "a <test>",
        "not measured here",
        "never an alarm",
        *LITERATURE,
    ):
        assert words in text
    assert "Combinations that make no policy" in text
    assert "test split" not in text
    if "budget" in question:
        assert ("no policy fits" in text) == (found.chosen is None)
    if "holdout_share" in question:
        assert "took no part in the choice" in text


def test_equal_evidence_gives_an_equal_page(tmp_path):
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_plot(evidence(), tmp_path / name)
        pages.append((tmp_path / name / REPLAY_HTML).read_bytes())
    assert pages[0] == pages[1]
