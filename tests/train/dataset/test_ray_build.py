"""Ray as a front end: what a worker does, what the driver checks, and once, for real, Ray itself."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types

import pytest

from ecgedge.bundle import FrontEndSpec
from ecgedge.errors import RecordError, UsageError
from ecgedge_train.cohorts import open_cohort
from ecgedge_train.dataset.build import build_dataset, shard_tasks
from ecgedge_train.dataset.ray_build import build_with_ray, write_row
from ecgedge_train.dataset.shards import finished

SHARD_ROWS = 8


@pytest.fixture
def tasks(ptbxl_folder, tmp_path):
    (tmp_path / "out" / "parts").mkdir(parents=True)
    cohort = open_cohort("ptbxl", from_dir=ptbxl_folder, options={})
    return shard_tasks(cohort, tmp_path / "out", shard_rows=SHARD_ROWS, spec=FrontEndSpec())


def pool_shards(ptbxl_folder, out):
    """Return the bytes of the shards that the ordinary build writes."""
    build_dataset(
        "ptbxl", from_dir=ptbxl_folder, out=out, options={"jobs": "1", "shard_rows": str(SHARD_ROWS)}
    )
    return [path.read_bytes() for path in sorted(out.glob("shard-*.npy"))]


class FakeRay(types.ModuleType):
    """The three calls that are used of Ray, in this process; tasks travel pickled as they do there."""

    class RayError(Exception):
        pass

    def __init__(self, *, fail: bool = False, lose: bool = False) -> None:
        super().__init__("ray")
        self.exceptions = types.SimpleNamespace(RayError=self.RayError)
        self.data = types.ModuleType("ray.data")
        self.data.from_items = self._from_items
        self.blocks, self.cpus = 0, 0.0
        self._fail, self._lose = fail, lose

    def _from_items(self, items, *, override_num_blocks):
        self.blocks = override_num_blocks
        return types.SimpleNamespace(map=lambda work, num_cpus: self._map(items, work, num_cpus))

    def _map(self, items, work, num_cpus):
        self.cpus = num_cpus
        return types.SimpleNamespace(iter_rows=lambda: self._rows(items, work))

    def _rows(self, items, work):
        for item in pickle.loads(pickle.dumps(items)):  # noqa: S301 - what Ray does between processes
            if self._fail:
                raise self.RayError("worker 3 ran out of memory")
            yield {"number": 0, "units": 0} if self._lose else work(item)


@pytest.fixture
def ray(monkeypatch):
    def install(**how: bool) -> FakeRay:
        module = FakeRay(**how)
        monkeypatch.setitem(sys.modules, "ray", module)
        monkeypatch.setitem(sys.modules, "ray.data", module.data)
        return module

    return install


def test_a_worker_writes_the_shard_that_the_pool_writes(tasks, ptbxl_folder, tmp_path):
    told = [write_row({"task": task}) for task in tasks]
    assert told == [{"number": n, "units": units} for n, units in enumerate((8, 8, 8, 6))]
    assert all(finished(task) for task in tasks)
    assert [t.array_path.read_bytes() for t in tasks] == pool_shards(ptbxl_folder, tmp_path / "pool")


def test_all_shards_are_written_each_as_a_block_and_counted(tasks, ray):
    seen: list[int] = []
    module = ray()
    build_with_ray(tasks, report=seen.append)
    assert (module.blocks, module.cpus, seen) == (4, 1, [8, 8, 8, 6])
    assert all(finished(task) for task in tasks)


def test_a_finished_shard_is_left(tasks, ray):
    write_row({"task": tasks[1]})
    before = tasks[1].array_path.stat().st_mtime_ns
    ray()
    build_with_ray(tasks, report=lambda _: None)
    assert tasks[1].array_path.stat().st_mtime_ns == before


def test_no_tasks_need_no_cluster(ray):
    module = ray()
    build_with_ray([], report=lambda _: None)
    assert module.blocks == 0


def test_workers_that_write_elsewhere_are_found_out(tasks, ray):
    ray(lose=True)
    with pytest.raises(
        RecordError, match=r"4 of 4 shards .* are not here; --out must be a folder that every"
    ):
        build_with_ray(tasks, report=lambda _: None)


def test_a_worker_that_fails_is_told(tasks, ray):
    ray(fail=True)
    with pytest.raises(
        RecordError, match=r"a Ray worker failed \(worker 3 ran out of memory\); .*run the same build"
    ):
        build_with_ray(tasks, report=lambda _: None)


def test_without_ray_the_extra_is_named(tasks, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"needs the package 'ray\[data\]'.*pip install 'ecgedge\[ray\]'"):
        build_with_ray(tasks, report=lambda _: None)


if importlib.util.find_spec("ray") is not None:  # an extra that the continuous checks do not install

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")  # Ray's own
    def test_ray_itself_writes_the_same_bytes(tasks, ptbxl_folder, tmp_path):
        import ray

        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
        try:
            seen: list[int] = []
            build_with_ray(tasks, report=seen.append)
        finally:
            ray.shutdown()
        assert sorted(seen) == [6, 8, 8, 8]
        assert [t.array_path.read_bytes() for t in tasks] == pool_shards(ptbxl_folder, tmp_path / "pool")
