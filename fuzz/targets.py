"""Every target by its name."""

from __future__ import annotations

import eeb_targets
import file_targets
import record_targets
import wire_targets

TARGETS = {**record_targets.TARGETS, **wire_targets.TARGETS, **eeb_targets.TARGETS, **file_targets.TARGETS}
