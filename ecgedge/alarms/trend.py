"""When mPCWP counts as rising: this patient's newest estimates against the patient's own baseline.

The rule is written out in the docstring of `ecgedge.policy.AlarmPolicy` (notes R5). The newest windows are kept
one by one. Those that have left the span are only counted, in a histogram for each 24th of the baseline's time,
so that a day costs as much memory at ten windows a second as at one a minute:

- a counted estimate is rounded to 0.1 mmHg and clipped to 0 to 100 mmHg: the baseline's median is within
  0.05 mmHg of that of the windows themselves as long as it lies between the two;
- a histogram is dropped whole, so the baseline reaches back over its time and up to a 24th of it more.

At most 25 histograms of at most 1,001 numbers are kept; of estimates that stay within 10 mmHg, 25 of 100.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import median
from typing import Final

from ecgedge.alarms.rules import SLACK_S, windows_due
from ecgedge.policy import AlarmPolicy

BLOCKS: Final = 24
"""Histograms to a baseline."""

_BINS_PER_MMHG: Final = 10
_HIGHEST_MMHG: Final = 100.0
_SLACK_MMHG: Final = 1e-9
"""18.1 - 13.1 is a little less than 5."""


@dataclass(frozen=True)
class TrendState:
    """What is kept, in plain types: (end, mmHg) of the newest windows, and counts by bin by block."""

    recent: tuple[tuple[float, float], ...] = ()
    blocks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class Trend:
    """The newest valid windows, what came before them, and the two questions asked of them.

    Each question costs one sort of the newest windows and of the bins in use.
    """

    def __init__(self, policy: AlarmPolicy, *, hop_s: float, saved: TrendState | None = None) -> None:
        saved = saved or TrendState()
        self._policy = policy
        self._block_s = policy.rising_baseline_s / BLOCKS
        self._most = windows_due(policy.rising_span_s, hop_s=hop_s) + 1
        self._recent = deque(saved.recent)
        self._blocks = {
            int(block): Counter({int(name): n for name, n in counts.items()})
            for block, counts in saved.blocks.items()
        }
        self._counts: Counter[int] = sum(self._blocks.values(), Counter())

    @property
    def state(self) -> TrendState:
        """All that is remembered."""
        blocks = {str(b): {str(name): n for name, n in counts.items()} for b, counts in self._blocks.items()}
        return TrendState(tuple(self._recent), blocks)

    def push(self, t_s: float, mpcwp_mmhg: float) -> None:
        """Take the newest window, count those that it pushes out of the span, and forget what is too old."""
        self._recent.append((t_s, mpcwp_mmhg))
        while (
            len(self._recent) > self._most or t_s - self._recent[0][0] >= self._policy.rising_span_s - SLACK_S
        ):
            old_s, mmhg = self._recent.popleft()
            self._blocks.setdefault(math.floor(old_s / self._block_s), Counter())[_bin(mmhg)] += 1
            self._counts[_bin(mmhg)] += 1
        oldest = math.floor(t_s / self._block_s) - BLOCKS
        for block in [b for b in self._blocks if b < oldest]:
            self._counts -= self._blocks.pop(block)

    def now_mmhg(self) -> float | None:
        """Return the median of the span that ends with the newest window; None if it holds too few."""
        if len(self._recent) < self._policy.rising_min_windows:
            return None
        return median(mmhg for _, mmhg in self._recent)

    def baseline_mmhg(self) -> float | None:
        """Return the median of what came before the span; None if that is too few windows."""
        counts, n = self._counts, sum(self._counts.values())
        if n < self._policy.rising_min_windows:
            return None
        return (_nth(counts, (n - 1) // 2) + _nth(counts, n // 2)) / (2 * _BINS_PER_MMHG)

    def rising(self) -> tuple[float, float] | None:
        """Return the span's and the baseline's median where the first is far enough above the second."""
        now, baseline = self.now_mmhg(), self.baseline_mmhg()
        if now is None or baseline is None or now - baseline < self._policy.rising_mmhg - _SLACK_MMHG:
            return None
        return now, baseline

    def fell_below(self, line_mmhg: float) -> bool:
        """Tell whether the span's median is known and under the recovery line, and no new rise holds."""
        now = self.now_mmhg()
        return now is not None and now < line_mmhg and self.rising() is None


def _bin(mmhg: float) -> int:
    return round(min(max(mmhg, 0.0), _HIGHEST_MMHG) * _BINS_PER_MMHG)


def _nth(counts: Counter[int], n: int) -> int:
    """Return the bin of the value that is number `n` (from 0) in ascending order."""
    names = sorted(counts)
    ends = list(accumulate(counts[name] for name in names))
    return names[bisect_right(ends, n)]
