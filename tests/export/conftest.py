"""A tiny trained model, and real windows through the front end: what every test of the export starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ecgedge.bundle import FrontEndSpec
from ecgedge.records import read
from ecgedge.signal import condition
from ecgedge_export.pack import export_run
from ecgedge_train.dataset import EcgDataset, build_dataset, open_dataset
from ecgedge_train.loop import train
from ecgedge_train.model import EcgModel, build_model
from ecgedge_train.recipe import Recipe, load_recipe

from .helpers import LENIENT, write_run


@pytest.fixture(scope="session")
def ptbxl(ecg_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 real PTB-XL recordings as a dataset."""
    out = tmp_path_factory.mktemp("data") / "ptbxl"
    build_dataset(
        "ptbxl",
        out=out,
        from_dir=ecg_data / "ptbxl",
        options={"missing": "skip", "limit": "200", "rate": "100"},
    )
    return out


@pytest.fixture(scope="session")
def dataset(ptbxl: Path) -> EcgDataset:
    return open_dataset(ptbxl)


@pytest.fixture(scope="session")
def ecg_mv(dataset: EcgDataset) -> NDArray[np.float32]:
    """(64, 12, 2500) real windows in millivolts."""
    return dataset.gather(np.arange(64))


@pytest.fixture(scope="session")
def run_dir(dataset: EcgDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: EdgeNet with class heads, a few seconds of training on real windows."""
    recipe = load_recipe(
        "ptbxl_supervised",
        ["schedule.steps=60", "schedule.warmup_steps=5", "data.batch_size=32", "encoder.embedding_size=32"],
    )
    out = tmp_path_factory.mktemp("runs") / "classes"
    train(recipe, dataset, out)
    return out


@pytest.fixture(scope="session")
def hemodynamic_recipe() -> Recipe:
    return load_recipe("sim_mpcwp", ["encoder.embedding_size=32"])


@pytest.fixture(scope="session")
def hemodynamic_model(hemodynamic_recipe: Recipe) -> EcgModel:
    """Random weights, but with batch-norm statistics of their own, so that folding them is tested."""
    return shake_norms(build_model(hemodynamic_recipe))


def shake_norms(model: EcgModel) -> EcgModel:
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            with torch.no_grad():
                module.running_mean.uniform_(-0.3, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.2, 0.2, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def resnet_model() -> EcgModel:
    recipe = load_recipe("jeong2023")
    return shake_norms(build_model(recipe))


@pytest.fixture(scope="session")
def causal_model() -> EcgModel:
    return shake_norms(
        build_model(load_recipe("sim_mpcwp", ["encoder.embedding_size=32", "encoder.causal=true"]))
    )


@pytest.fixture(scope="session")
def causal_resnet() -> EcgModel:
    return shake_norms(build_model(load_recipe("jeong2023", ["encoder.causal=true"])))


@pytest.fixture(scope="session")
def causal_run(causal_model, dataset, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "causal", causal_model, dataset, causal=True)


@pytest.fixture(scope="session")
def exported(causal_run, ptbxl, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "both.ecgb"
    options = {"data": ptbxl, "target": "cpu", "lead_sets": ("I,II",), "calibration_samples": 32}
    export_run(causal_run, out=out, form="both", gates=LENIENT, **options)
    return out


@pytest.fixture(scope="session")
def long_ecg(ecg_data: Path) -> NDArray[np.int16]:
    """(12, 9600) front-end counts: 38 s of one patient of the PTB Diagnostic ECG Database, without a joint."""
    recording = read(ecg_data / "ptbdb_15lead" / "s0010_re.hea")
    counts = condition(recording, FrontEndSpec()).counts
    assert counts.shape == (12, 9600)
    return counts
