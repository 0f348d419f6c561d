"""The command line: the composition root, one file a kind of work.

Other rooms are imported inside a command only, so that a device without training packages starts fast and
names the missing extra. Exit codes: 0 done; 1 the work failed; 2 usage or missing extra; 3 the feed was
lost; 4 bundle refused.
"""

from ecgedge.cli import (  # noqa: F401 - each adds its commands
    bedside,
    benching,
    building,
    bundles,
    clustering,
    compressing,
    doctoring,
    exporting,
    files,
    journaling,
    page_users,
    replaying,
    sending,
    training,
    vitalfilter,
    warding,
)
from ecgedge.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    app()
