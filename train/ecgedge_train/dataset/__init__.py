"""Datasets: int16 shards, a Parquet index and dataset.json; built atomically, read by whole batches."""

from ecgedge_train.dataset.build import build_dataset
from ecgedge_train.dataset.describe import describe_dataset
from ecgedge_train.dataset.index import DatasetInfo, read_info
from ecgedge_train.dataset.read import EcgDataset, open_dataset
from ecgedge_train.dataset.sampler import batches, group_by_patient, pair_batches, patient_codes
from ecgedge_train.dataset.union import UnionDataset

__all__ = [
    "DatasetInfo",
    "EcgDataset",
    "UnionDataset",
    "batches",
    "build_dataset",
    "describe_dataset",
    "group_by_patient",
    "open_dataset",
    "pair_batches",
    "patient_codes",
    "read_info",
]
