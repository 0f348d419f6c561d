"""The processes of one training, each forked from a process that has imported what all of them need.

Their own start would cost more than what they compute: torch, its distributed part and its optimisers take seconds.
"""

import multiprocessing
import os
import runpy
import sys
import warnings
from contextlib import suppress

from free_ports import free_port

_NEEDED = ("torch._dynamo", "torch.nn.parallel", "ecgedge_train.run")


def _rank(script, arguments, environment, errors):
    with open(errors, "w") as file:
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    warnings.simplefilter("error")
    runpy.run_path(script, run_name="__main__")


def run_ranks(script, processes, *arguments, folder, timeout_s=240.0, **environment):
    """Run a script in processes that know of each other; return (errors, code) of each."""
    shared = {**environment, "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_NEEDED))
    started = []
    try:
        for rank in range(processes):
            own, errors = {"RANK": str(rank), "LOCAL_RANK": str(rank)}, folder / f"errors{rank}.txt"
            arguments_of = (str(script), [str(x) for x in arguments], shared | own, errors)
            started.append((context.Process(target=_rank, args=arguments_of), errors))
            started[-1][0].start()
        for process, _ in started:
            process.join(timeout_s)
        assert all(process.exitcode is not None for process, _ in started), "a process does not end"
        return [(errors.read_text(), process.exitcode) for process, errors in started]
    finally:
        for process, _ in started:
            with suppress(ValueError):
                process.kill()
                process.join()
                process.close()
