"""Evidence for alarms: estimates once, as a bed makes them; then every policy of a grid over them.

The rules are never written twice: what is replayed is the alarm engine of a bed.
"""

from ecgedge.replay.choose import Budget
from ecgedge.replay.evidence import Evidence, Part, Question, episodes_of, judge
from ecgedge.replay.grid import Grid, GridAxes, make_grid
from ecgedge.replay.intervals import Measured
from ecgedge.replay.report import (
    definitions,
    describe_cohort,
    describe_streams,
    render_text,
    to_json,
    write_json,
    write_policy,
)
from ecgedge.replay.run import Replayed, Served, replay_streams
from ecgedge.replay.score import DEFAULT_EARLY_S, PolicyScore, Score
from ecgedge.replay.spans import Span
from ecgedge.replay.streams import FIRST_SEED, SimulatedStream, find_recordings, simulated_streams
from ecgedge.replay.truth import Episode, read_table

__all__ = [
    "DEFAULT_EARLY_S",
    "FIRST_SEED",
    "Budget",
    "Episode",
    "Evidence",
    "Grid",
    "GridAxes",
    "Measured",
    "Part",
    "PolicyScore",
    "Question",
    "Replayed",
    "Score",
    "Served",
    "SimulatedStream",
    "Span",
    "definitions",
    "describe_cohort",
    "describe_streams",
    "episodes_of",
    "find_recordings",
    "judge",
    "make_grid",
    "read_table",
    "render_text",
    "replay_streams",
    "simulated_streams",
    "to_json",
    "write_json",
    "write_policy",
]
