"""Rebuild the bundle that is embedded in the wheel, from nothing but its recipe (`make embedded-bundle`).

Simulated patients -> dataset -> training -> evaluation -> export. Everything in it is SIMULATED and the card
says so. It ships fp32: for a network this small INT8 gains little on a CPU, and fp32 is right on every CPU.

The export measures each variant against the trained network, so what this makes holds evidence.json. The bundle that is
embedded now is older than that step. It cannot be added to it: the run that it was made of was not kept, and a bundle's
id is over its manifest, with the hash of each file and today's keys, so the same models packed again have another id.
After a rebuild, what names the old id is stale (bed.json, one_point.json, alarms_replay.json), and with other weights
whatever was measured with them. tests/test_bundle.py needs the old manifest, as one from before keys were added.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ecgedge.bundle import describe_bundle, load_bundle
from ecgedge.policy import AlarmPolicy
from ecgedge_export.pack import export_run
from ecgedge_train.dataset import build_dataset
from ecgedge_train.evaluate import evaluate_run
from ecgedge_train.run import train_run

REPO = Path(__file__).parents[1]
EMBEDDED = REPO / "ecgedge" / "embedded.ecgb"
PATIENTS = "6000"
POLICY = AlarmPolicy(onset_probability=0.7)
"""At an AUROC of 0.80 a calibrated probability hardly passes 0.8: benchmarks/alarm_seeds.py has the grid."""


def main(work: Path) -> None:
    """Build in `work`; steps that are finished there are kept."""
    data, run, report, bundle = (work / name for name in ("data", "run", "report", "embedded.ecgb"))
    build_dataset("sim", out=data, options={"patients": PATIENTS})
    train_run("sim_mpcwp", data=data, out=run, resume=(run / "recipe.toml").exists())
    evaluate_run(run, data=data, out=report)
    shutil.rmtree(bundle, ignore_errors=True)
    export_run(
        run,
        data=data,
        target="x86-cpu",
        out=bundle,
        precisions=("fp32",),
        report=report,
        name="ecgedge-embedded-demo",
        alarm_policy=POLICY,
    )
    sys.stdout.write(describe_bundle(load_bundle(bundle)) + "\n")
    shutil.rmtree(EMBEDDED, ignore_errors=True)
    shutil.copytree(bundle, EMBEDDED)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPO / "out" / "embedded")
