"""Is this machine fit to serve? Facts are gathered once (`facts`), and judged by functions without I/O (`checks`)."""

from ecgedge.doctor.bundle import check_bundle
from ecgedge.doctor.checks import Check, check_machine
from ecgedge.doctor.facts import Disk, Facts, Output, gather_facts

__all__ = ["Check", "Disk", "Facts", "Output", "check_bundle", "check_machine", "gather_facts"]
