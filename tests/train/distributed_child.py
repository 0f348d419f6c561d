"""Run in the tests of several processes: one rank of a gathered loss, or of a training."""

import importlib.util
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ecgedge_train import run
from ecgedge_train.distributed import (
    GatheredBatchNorm,
    current_world,
    gather_rows,
    leave_world,
    world_gather,
)
from ecgedge_train.loop import train
from ecgedge_train.losses import Gathered, TimeFrequency, cmsc_loss, nt_xent, tfc_loss, triplet_loss
from ecgedge_train.miners import label_distance_triplets
from ecgedge_train.recipe import load_recipe

ITEMS = 16
PATIENTS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1, 8, 9, 10, 11, 2, 13, 14, 15])
"""Two patients are there twice, in different processes."""


def pclr(z, w):
    first, second = z.chunk(2)
    return nt_xent(first, second, patients=own(PATIENTS), gather=world_gather())


def simclr(z, w):
    first, second = z.chunk(2)
    return nt_xent(first, second, temperature=0.5, gather=world_gather())


def cmsc(z, w, positives="patient"):
    first, second = z.chunk(2)
    codes = own(PATIENTS)
    everyone = Gathered(gather_rows(first), gather_rows(second), gather_rows(codes))
    return cmsc_loss(first, second, codes, gathered=everyone, positives=positives)


def cmsc_published(z, w):
    return cmsc(z, w, positives="published")


def tfc(z, w):
    first, second = z.chunk(2)
    parts = [TimeFrequency(x[:, :3], x[:, 3:6], x[:, 2:5], x[:, 1:4]) for x in (first, second)]
    return tfc_loss(*parts, hinge=True, patients=own(PATIENTS), gather=world_gather())


def label_triplet(z, w):
    labels = torch.sin(torch.arange(2.0 * ITEMS, dtype=torch.float64))
    everyone = torch.cat([gather_rows(half) for half in z.chunk(2)])
    rows = own(torch.arange(ITEMS))
    anchors = torch.cat([rows, rows + ITEMS])
    return triplet_loss(everyone, label_distance_triplets(labels, anchors=anchors), margin=5.0)


LOSSES = {f.__name__: f for f in (pclr, simclr, cmsc, cmsc_published, tfc, label_triplet)}


def own(items):
    return items[current_world().part(len(items))]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv1d(12, 8, 5, dtype=torch.float64)
        self.bn = GatheredBatchNorm(nn.BatchNorm1d(8, dtype=torch.float64))
        self.fc = nn.Linear(8, 6, dtype=torch.float64)

    def forward(self, x):
        return self.fc(torch.tanh(self.bn(self.conv(x))).mean(dim=-1))


def gradients(name):
    """Loss of this process and the gradients after DDP's averaging, by parameter."""
    net = Net()
    model = DistributedDataParallel(net) if current_world().size > 1 else net
    torch.manual_seed(2)
    x = torch.randn(2, ITEMS, 12, 40, dtype=torch.float64)
    views = torch.cat([own(x[0]), own(x[1])])
    loss = LOSSES[name](model(views), net)
    loss.backward()
    found = {n: p.grad.clone() for n, p in net.named_parameters()}
    found["running_mean"], found["running_var"] = net.bn.running_mean, net.bn.running_var
    return loss.detach(), found


def main():
    job, out = sys.argv[1], Path(sys.argv[2].replace("RANK", os.environ["RANK"]))
    torch.set_num_threads(1)
    return gradients_job(out) if job == "gradients" else train_job(job, sys.argv[3], out)


def gradients_job(out):
    distributed.init_process_group("gloo")
    results = {}
    for name in LOSSES:
        loss, grads = gradients(name)
        distributed.all_reduce(loss)
        results[name] = (loss / current_world().size, grads)
    if current_world().first:
        torch.save(results, out)
    leave_world()


def train_job(job, recipe, out):
    """Train by a recipe; from the environment: RESUME, STOP_AT or KILL_AFTER a step, labels to HIDE."""
    data = memory_data()
    for name in os.environ.get("HIDE", "").split():
        # Two of three records do not know this label.
        hidden = np.arange(len(data.windows)) % 3 > 0
        data.label_columns[name] = np.where(hidden, np.nan, data.label_columns[name])
    options = {"resume": "RESUME" in os.environ, "max_steps": int(os.environ.get("STOP_AT", "0")) or None}
    if job == "stages":
        run.open_dataset = lambda _: data
        run.train_run(recipe, data=out, out=out, **options)
    else:
        train(load_recipe(recipe), data, out, report=die_after(os.environ.get("KILL_AFTER")), **options)


def memory_data():
    spec = importlib.util.spec_from_file_location("memory_data", Path(__file__).with_name("memory_data.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_data()


def die_after(step):
    """Return a report of progress by which the process kills itself: from outside it may be a step too late."""

    def report(done, total, loss):
        if str(done) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return report


if __name__ == "__main__":
    main()
