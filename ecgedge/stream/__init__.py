"""Sans-I/O streaming: samples and their times in, events out. Nothing in here reads a clock."""

from ecgedge.stream.bed import Bed
from ecgedge.stream.snapshot import BedSnapshot
from ecgedge.stream.variants import Variants
from ecgedge.stream.ward import Ward

__all__ = ["Bed", "BedSnapshot", "Variants", "Ward"]
