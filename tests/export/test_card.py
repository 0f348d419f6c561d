"""The card's table of what more leads gain: its figures are the manifest's."""

from dataclasses import replace

from ecgedge.bundle import load_bundle
from ecgedge_export.card import write_card


def test_leads():
    manifest = load_bundle("embedded").manifest
    card = write_card(manifest).decode()
    section = card.partition("## Leads")[2].partition("## Limits")[0]
    assert "SIMULATED" in section
    assert "auroc_gt_15" in section
    rows = {row.lead_set: row for row in manifest.results if row.metric == "auroc_gt_15"}
    macs = {variant.name: variant.macs for variant in manifest.variants}
    more = rows["12"].value - rows["II"].value
    assert (
        f"| 12/fp32 | {rows['12'].value:.3f} ({rows['12'].low:.3f} to {rows['12'].high:.3f}) | {more:+.3f} | "
        f"x{macs['12/fp32'] / macs['II/fp32']:.2f} |"
    ) in section
    assert "| reference |" in section


def test_nothing_to_compare_gives_no_section():
    assert "## Leads" not in write_card(replace(load_bundle("embedded").manifest, results=())).decode()
