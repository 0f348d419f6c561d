"""PhysioNet/CinC Challenge 2021: eight sources of 12-lead ECGs with diagnoses as SNOMED CT codes.

Reyna et al., "Will two do? Varying dimensions in electrocardiography: the PhysioNet/Computing in Cardiology
Challenge 2021", Computing in Cardiology 48 (2021). The codes and abbreviations are those of its table of
scored diagnoses, dx_mapping_scored.csv; pairs that the Challenge scores as one are one class here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecgedge.errors import RecordError, UsageError
from ecgedge_train.cohorts.base import Cohort, Entry, LabelKind, take_options, whole_number
from ecgedge_train.cohorts.recordings import (
    FileUnit,
    check_short,
    digest_of,
    find_headers,
    load_wfdb,
    read_comments,
    refuse_repeated,
)
from ecgedge_train.cohorts.split import fold_of_patient, split_of_fold
from ecgedge_train.cohorts.tables import age_years, number, read_table, sex

SCORED: Final[Mapping[str, tuple[str, ...]]] = {
    "AF": ("164889003",),
    "AFL": ("164890007",),
    "BBB": ("6374002",),
    "Brady": ("426627000",),
    "CLBBB|LBBB": ("733534002", "164909002"),
    "CRBBB|RBBB": ("713427006", "59118001"),
    "IAVB": ("270492004",),
    "IRBBB": ("713426002",),
    "LAD": ("39732003",),
    "LAnFB": ("445118002",),
    "LPR": ("164947007",),
    "LQRSV": ("251146004",),
    "LQT": ("111975006",),
    "NSIVCB": ("698252002",),
    "NSR": ("426783006",),
    "PAC|SVPB": ("284470004", "63593006"),
    "PR": ("10370003",),
    "PRWP": ("365413008",),
    "PVC|VPB": ("427172004", "17338001"),
    "QAb": ("164917005",),
    "RAD": ("47665007",),
    "SA": ("427393009",),
    "SB": ("426177001",),
    "STach": ("427084000",),
    "TAb": ("164934002",),
    "TInv": ("59931005",),
}
"""The 26 scored classes and their codes."""
PTBXL_RECORD: Final = re.compile(r"HR(\d{5})")
"""A record that comes from PTB-XL, with its ecg_id."""
_GROUP: Final = re.compile(r"g\d+")
_DEFAULTS: Final = {"subsets": "", "seed": "0", "short": "refuse", "ptbxl_csv": ""}
_LABELS: Final[Mapping[str, LabelKind]] = {
    **dict.fromkeys(SCORED, "float"),
    "age": "float",
    "sex": "text",
    "subset": "text",
    "dx": "text",
}
_ATTRIBUTION: Final = (
    "PhysioNet/Computing in Cardiology Challenge 2021, M. Reyna, N. Sadr, A. Gu, E. Perez Alday, C. Liu, "
    "S. Seyedi, A. Shah, G. Clifford, PhysioNet; Creative Commons Attribution 4.0 International (CC BY 4.0). "
    "It publishes no patient ids: each record counts as a patient of its own, so records of one patient may "
    "stand in two splits"
)
_HINT: Final = "a folder of the Challenge's records"


@dataclass(frozen=True)
class _Found:
    """One header on disk; `place` is its path below the cohort's folder."""

    header: Path
    place: str
    subset: str


def open_cinc2021(from_dir: Path | None, options: Mapping[str, str]) -> Cohort:
    """Plan Challenge 2021 records from a folder of subset folders, or from one of these.

    Options: `subsets` takes only these (comma-separated folder names; "" takes all). `seed` of the split,
    see `cohorts.split`. `short` is refuse or pad (recordings under 10 s, see `recordings.fit_window`; the
    CPSC and Georgia subsets hold some). `ptbxl_csv` names PTB-XL's ptbxl_database.csv, which tells the
    patients of the PTB-XL subset (HRnnnnn is ecg_id nnnnn); elsewhere the patient is the record.

    A record is 0 in a class whose code it does not carry. No subset uses all codes, so some of these zeros
    are unknowns (PRWP stands only in Ningbo): score a class on the subsets that use it. A record without
    any code is unlabelled (NaN). `dx` keeps all codes, `subset` the folder.

    Raises
    ------
    UsageError
        On a wrong option.
    RecordError
        If there are no records, one stands twice, or `ptbxl_csv` does not know one.
    """
    chosen = take_options("cinc2021", options, _DEFAULTS)
    seed = whole_number("seed", chosen["seed"], least=0)
    check_short("cinc2021", chosen["short"])
    if from_dir is None:
        raise UsageError(f"source 'cinc2021' needs --from DIR, {_HINT}")
    found = _find(from_dir, chosen["subsets"])
    refuse_repeated((each.header.stem for each in found), where=from_dir)
    patients, digest = _ptbxl_patients(chosen["ptbxl_csv"])
    entries = [_entry(each, patients, seed) for each in found]
    rows = ((each.place, entry.patient_id, entry.labels) for each, entry in zip(found, entries, strict=True))
    identity = {**chosen, "ptbxl_csv": digest, "records_sha256": digest_of(rows)}
    return Cohort(
        name="cinc2021",
        simulated=False,
        attribution=_ATTRIBUTION,
        labels=_LABELS,
        classes=tuple(SCORED),
        identity=identity,
        units=tuple(
            FileUnit(entry, each.header, chosen["short"]) for each, entry in zip(found, entries, strict=True)
        ),
        rows_per_unit=1,
        load=load_wfdb,
    )


def class_labels(dx: str) -> dict[str, float]:
    """Return 0/1 for each scored class from comma-separated codes; NaN if there is no code at all."""
    codes = set(re.findall(r"\d+", dx))
    if not codes:
        return dict.fromkeys(SCORED, float("nan"))
    return {name: float(not codes.isdisjoint(same)) for name, same in SCORED.items()}


def _find(from_dir: Path, subsets: str) -> list[_Found]:
    found = [
        _Found(header, header.relative_to(from_dir).as_posix(), _subset(header))
        for header in find_headers(from_dir, what=_HINT)
    ]
    wanted = {name.strip() for name in subsets.split(",") if name.strip()}
    has = {each.subset for each in found}
    if wanted - has:
        raise RecordError(
            f"{from_dir}: no subset {', '.join(sorted(wanted - has))}; it has {', '.join(sorted(has))}"
        )
    return [each for each in found if not wanted or each.subset in wanted]


def _subset(header: Path) -> str:
    """Return the folder that names the origin; the Challenge puts g1, g2, ... of 1000 records between."""
    folder = header.absolute().parent
    return folder.parent.name if _GROUP.fullmatch(folder.name) else folder.name


def _ptbxl_patients(path: str) -> tuple[dict[int, str] | None, str]:
    """Return ecg_id to patient_id and the hash of the table; nothing if no table is given."""
    if not path:
        return None, ""
    hint = "ptbxl_csv must name PTB-XL's ptbxl_database.csv"
    _, rows, digest = read_table(Path(path), required=("ecg_id", "patient_id"), hint=hint)
    return {int(number(row["ecg_id"])): str(int(number(row["patient_id"]))) for row in rows}, digest


def _entry(found: _Found, patients: Mapping[int, str] | None, seed: int) -> Entry:
    comments = read_comments(found.header)
    record = found.header.stem
    patient = _patient(record, patients)
    fold = fold_of_patient(patient, seed=seed)
    dx = comments.get("dx", "")
    labels: dict[str, float | str] = {
        **class_labels(dx),
        "age": age_years(comments.get("age", "")),
        "sex": sex(comments.get("sex", "")),
        "subset": found.subset,
        "dx": dx,
    }
    return Entry(record, patient, "", split_of_fold(fold), fold, labels)


def _patient(record: str, patients: Mapping[int, str] | None) -> str:
    match = PTBXL_RECORD.fullmatch(record)
    if patients is None or match is None:
        return record
    if int(match[1]) not in patients:
        raise RecordError(
            f"{record}: ecg_id {int(match[1])} is not in ptbxl_csv; give the whole ptbxl_database.csv, or leave "
            "the PTB-XL subset out with subsets="
        )
    return patients[int(match[1])]
