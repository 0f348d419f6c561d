"""The running counts of the elevation rules against the rules as `AlarmPolicy` writes them, counted anew each time."""

import math
from statistics import median

from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.alarms.rules import SLACK_S, Elevation, ValidWindow
from ecgedge.policy import AlarmPolicy

HOP_S = 5.0
POLICIES = [
    AlarmPolicy(persistence_s=30.0, recovery_window_s=60.0),
    AlarmPolicy(persistence_s=60.0, recovery_window_s=20.0, onset_fraction=1.0, min_valid_fraction=1.0),
    AlarmPolicy(persistence_s=25.0, recovery_window_s=25.0, onset_fraction=0.6, min_valid_fraction=0.2),
]


class Plain:
    """All windows ever, and each question asked of them as it is written."""

    def __init__(self, policy):
        self.policy, self.windows = policy, []

    def span(self, span_s, age_s):
        newest_s = self.windows[-1].t_s
        # No more are kept than one beyond those due in the longer span: a burst of windows has no older ones.
        most = math.floor(max(self.policy.persistence_s, self.policy.recovery_window_s) / HOP_S) + 1
        span = [w for w in self.windows[-most:] if newest_s - w.t_s < span_s - SLACK_S]
        due = math.floor(span_s / HOP_S)
        enough = len(span) >= self.policy.min_valid_fraction * due - 1e-9
        return span if enough and age_s >= span_s - SLACK_S else []

    def share(self, age_s, counts):
        span = self.span(self.policy.persistence_s, age_s)
        return bool(span) and sum(map(counts, span)) >= self.policy.onset_fraction * len(span) - 1e-9

    def onset(self, age_s):
        policy = self.policy
        return self.share(
            age_s, lambda w: w.p >= policy.onset_probability or w.lower_mmhg > policy.threshold_mmhg
        )

    def medium(self, age_s):
        return self.share(age_s, lambda w: w.lower_mmhg >= self.policy.medium_lower_bound_mmhg)

    def recovered(self, age_s):
        policy = self.policy
        span = self.span(policy.recovery_window_s, age_s)
        if not span or self.onset(age_s):
            return False
        low = median(w.mpcwp_mmhg for w in span) < policy.threshold_mmhg - policy.recovery_margin_mmhg
        return low and median(w.p for w in span) < policy.recovery_probability


@settings(max_examples=150)
@given(
    policy=st.sampled_from(POLICIES),
    steps=st.lists(
        st.tuples(
            st.sampled_from([HOP_S] * 6 + [HOP_S / 2, 3 * HOP_S, 100.0]),
            st.sampled_from([(0.9, 22.0, 19.0), (0.3, 12.0, 5.0), (0.6, 16.0, 10.0), (0.95, 30.0, 26.0)]),
        ),
        min_size=1,
        max_size=120,
    ),
    restored=st.sets(st.integers(0, 119), max_size=3),
)
def test_counts_are_those_of_the_rules(policy, steps, restored):
    plain, counted, t_s = Plain(policy), Elevation(policy, hop_s=HOP_S), 0.0
    for k, (step_s, (p, mpcwp_mmhg, lower_mmhg)) in enumerate(steps):
        t_s += step_s
        window = ValidWindow(t_s, p, mpcwp_mmhg, lower_mmhg)
        plain.windows.append(window)
        counted.push(window)
        if k in restored:
            counted = Elevation(policy, hop_s=HOP_S, windows=counted.windows)
        for question in ("onset", "medium", "recovered"):
            assert getattr(counted, question)(age_s=t_s) == getattr(plain, question)(t_s), (k, question)
