"""Commands of the training room: data, train, import, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ecgedge.cli.app import SetOption, app, data_app, needs, out_folder, parse_lead_sets, parse_options


@data_app.command("build")
def data_build(
    source: Annotated[str, typer.Argument(help="ptbxl, folder, sim, ...; see docs/data.md.")],
    out: Annotated[Path, typer.Option(help="Dataset directory to write; an unfinished one is continued.")],
    from_dir: Annotated[Path | None, typer.Option("--from", help="Folder of the source.")] = None,
    settings: SetOption = None,
) -> None:
    """Build a dataset: conditioned int16 shards and an index, split by patient.

    Example: `ecgedge data build ptbxl --from ../shared/data/ptbxl --out out/ptbxl`
    """
    with needs("train", "data build"):
        from ecgedge_train.dataset import build_dataset, describe_dataset
    info = build_dataset(source, from_dir=from_dir, out=out, options=parse_options(settings))
    typer.echo(describe_dataset(info))


@data_app.command("info")
def data_info(folder: Annotated[Path, typer.Argument(help="Dataset directory.")]) -> None:
    """Print what a dataset holds.

    Example: `ecgedge data info out/ptbxl`
    """
    with needs("train", "data info"):
        from ecgedge_train.dataset import describe_dataset, open_dataset
    typer.echo(describe_dataset(open_dataset(folder).info))


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of one that is shipped.")],
    data: Annotated[Path, typer.Option(help="Dataset directory.")],
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    settings: SetOption = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after this many steps.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run where it stopped.")] = False,
    also: Annotated[
        list[Path] | None, typer.Option(help="Further dataset whose records all train; may be repeated.")
    ] = None,
    encoder_from: Annotated[
        Path | None, typer.Option(help="Finished run whose encoder starts this one (fine-tuning).")
    ] = None,
) -> None:
    """Train an encoder.

    Example: `ecgedge train ptbxl_pclr_rlm --data out/ptbxl --out runs/pclr --set optimizer.lr=3e-4`

    Several GPUs or machines: the same through torchrun, see docs/training.md.
    """
    with needs("train", "train"):
        from ecgedge_train.run import train_run
    train_run(
        recipe,
        data=data,
        out=out_folder(out),
        also=also or (),
        overrides=settings or [],
        max_steps=max_steps,
        resume=resume,
        encoder_from=encoder_from,
    )


@app.command("import")
def import_weights(
    kind: Annotated[Literal["pclr", "fairseq-signals"], typer.Argument(help="Who published the weights.")],
    file: Annotated[
        Path,
        typer.Argument(
            help="Your download: a Keras .h5 or SavedModel folder (pclr), a .pt (fairseq-signals)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    variant: Annotated[
        Literal["12", "I", "II", "C3PO"] | None,
        typer.Option(help="Which PCLR network, if the file does not say."),
    ] = None,
) -> None:
    """Make a run of published weights: to evaluate, to export, or to start a training from.

    Example: `ecgedge import pclr PCLR.h5 --out runs/pclr-published`
    """
    with needs("train", "import"):
        from ecgedge_train.importers.run import import_run
    typer.echo(import_run(kind, file, out=out_folder(out), variant=variant))


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    data: Annotated[Path, typer.Option(help="Dataset directory.")],
    out: Annotated[Path, typer.Option(help="Report directory to write.")],
    lead_sets: Annotated[str | None, typer.Option(help='Lead sets, for example "12;I,II,V1,V5;I".')] = None,
    against: Annotated[Path | None, typer.Option(help="Another run, compared on the same records.")] = None,
    low_labels: Annotated[
        bool | None,
        typer.Option("--low-labels/--no-low-labels", help="Probe on 100, 300, 1,000 labels too."),
    ] = None,
    embedding_map: Annotated[
        Literal["pca", "umap"], typer.Option(help="Picture of the embeddings: pca or umap.")
    ] = "pca",
    cinc_weights: Annotated[
        Path | None, typer.Option(help="weights.csv of the 2021 Challenge: adds its score.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Resamples of patients for the intervals.")] = 1000,
) -> None:
    """Evaluate a run on patients it has never seen.

    Example: `ecgedge evaluate runs/pclr --data out/ptbxl --out reports/pclr`
    """
    with needs("train", "evaluate"):
        from ecgedge_train.evaluate import evaluate_run
    text = evaluate_run(
        run,
        data=data,
        out=out_folder(out),
        lead_sets=parse_lead_sets(lead_sets),
        against=against,
        low_labels=low_labels,
        embedding_map=embedding_map,
        cinc_weights=cinc_weights,
        resamples=resamples,
    )
    typer.echo(text)
