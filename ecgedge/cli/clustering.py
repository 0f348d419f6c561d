"""Commands on a cluster: serve beds that a bus feeds, on one machine or on many, and put feeds onto the bus."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecgedge.cli.app import (
    BundleOption,
    FormOption,
    RuntimeOption,
    SignatureOption,
    announce,
    check_serving,
    cluster_app,
    open_bundle,
    open_variants,
    say,
)
from ecgedge.cli.warding import facts_of, prepare_for_many, show_answer
from ecgedge.errors import UsageError

if TYPE_CHECKING:
    from ecgedge.bundle import Bundle
    from ecgedge.cluster.bus import BusSettings
    from ecgedge.cluster.ray_ward import WardSpec
    from ecgedge.cluster.ward_node import WardNode
    from ecgedge.policy import AlarmPolicy

BusOption = Annotated[
    str, typer.Option("--bus", help="nats://HOST:4222, or several of one NATS cluster with commas between.")
]


@cluster_app.command()
def serve(
    bus: BusOption,
    beds: Annotated[
        str, typer.Option(help="Names with commas between, or a ward's file (its feeds are not opened).")
    ],
    bundle: BundleOption = "embedded",
    ray: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster, or local: beds on all its nodes. Left out: on this machine."
        ),
    ] = None,
    resource: Annotated[
        str | None, typer.Option(help="Only Ray nodes with this custom resource serve beds.")
    ] = None,
    state_s: Annotated[float, typer.Option(help="Seconds between a bed's checkpoints.")] = 10.0,
    journal_patience_s: Annotated[
        float,
        typer.Option(
            help="Beds say JOURNAL_FAILED where their journals' entries have waited longer; 0: none are kept."
        ),
    ] = 60.0,
    replay_s: Annotated[
        float, typer.Option(help="So long the bus keeps samples, if its streams are not there yet.")
    ] = 120.0,
    replicas: Annotated[int, typer.Option(help="On so many NATS servers, if they are not there yet.")] = 1,
    form: FormOption = "window",
    runtime: RuntimeOption = "auto",
    require_signature: SignatureOption = None,
) -> None:
    """Serve beds that a bus feeds; a bed whose node dies is served by another, and reads what it missed.

    Example: `ecgedge cluster serve --bus nats://10.0.0.5:4222 --beds icu-1,icu-2 --ray auto`
    """
    from ecgedge.cluster.bus import JOURNAL_S, BusSettings
    from ecgedge.cluster.journal_watch import SHORTEST_PATIENCE_S
    from ecgedge.cluster.ray_ward import WardSpec

    check_serving(runtime=runtime, form=form)
    if not 0.0 < state_s < 3600.0:
        raise UsageError(f"--state-s is {state_s:g}; it must be above 0 and below 3600 seconds")
    if journal_patience_s != 0.0 and not SHORTEST_PATIENCE_S <= journal_patience_s <= JOURNAL_S:
        raise UsageError(
            f"--journal-patience-s is {journal_patience_s:g}; it must be 0, or from {SHORTEST_PATIENCE_S:g} to "
            f"{JOURNAL_S:g} seconds"
        )
    if resource is not None and ray is None:
        raise UsageError("--resource without --ray: it names a resource of Ray's nodes")
    settings = BusSettings(replay_s=replay_s, replicas=replicas)
    loaded = open_bundle(bundle, signed_by=require_signature)
    policies = _beds(beds, loaded)
    announce(loaded, "demo" if loaded.simulated else "real")
    place = bundle if bundle == "embedded" else str(Path(bundle).resolve())
    own = {name: policy for name, policy in policies.items() if policy is not None}
    spec = WardSpec(
        bus, place, loaded.id, runtime, form == "stream", state_s, settings, own, journal_patience_s
    )
    if ray is None:
        prepare_for_many()
        asyncio.run(_serve_here(loaded, spec, tuple(policies)))
    else:
        asyncio.run(_serve_on_ray(spec, tuple(policies), ray, resource))


def _beds(text: str, bundle: Bundle) -> dict[str, AlarmPolicy | None]:
    """Return the beds' names, each with its policy if it has one of its own."""
    from ecgedge.alarms import load_policy
    from ecgedge.wards.config import BedConfig, WardConfig, load_ward

    if text.endswith(".toml"):
        beds = load_ward(Path(text)).bed
    else:
        try:
            beds = WardConfig(bed=tuple(BedConfig(name.strip(), "bus:") for name in text.split(","))).bed
        except ValueError as error:
            raise UsageError(f"--beds {text}: {error}") from error
    if not beds:
        raise UsageError(f"--beds {text}: there is no bed")
    hop_s = bundle.manifest.hop_s
    return {bed.name: load_policy(Path(bed.policy), hop_s=hop_s) if bed.policy else None for bed in beds}


async def _serve_here(bundle: Bundle, spec: WardSpec, beds: tuple[str, ...]) -> None:
    from ecgedge.cluster.bus import open_bus

    bus = await open_bus(spec.bus, settings=spec.settings, say=say)
    variants = open_variants(bundle, runtime=spec.runtime, form="stream" if spec.streaming else "window")
    for reason in variants.refused:
        say(reason)
    node = spec.node(bundle, variants, bus, say=say)
    _stop_by_signal(node.stop)
    running = asyncio.create_task(node.run())
    taking = asyncio.create_task(_take(node, beds))
    try:
        await running
    finally:
        taking.cancel()


async def _take(node: WardNode, beds: tuple[str, ...]) -> None:
    back = await node.take(beds)
    say(f"{len(back)} of {len(beds)} beds are served")


async def _serve_on_ray(spec: WardSpec, beds: tuple[str, ...], address: str, resource: str | None) -> None:
    from ecgedge.cluster.bus import open_bus
    from ecgedge.cluster.ray_wards import RayWards, connect_ray

    bus = await open_bus(spec.bus, settings=spec.settings, say=say)
    connect_ray(address)
    wards = RayWards(spec, beds, bus, resource=resource, say=say)
    _stop_by_signal(wards.stop)
    try:
        await wards.run()
    finally:
        await bus.close()


@cluster_app.command()
def publish(
    bus: BusOption,
    bed: Annotated[str, typer.Option(help="The bed's name.")],
    source: Annotated[str, typer.Option("--from", help="Any feed: tcp://..., sim:NAME, file:PATH.")],
    speed: Annotated[
        str, typer.Option(help="max, or a factor of real time, for feeds that are not live.")
    ] = "1",
    chunk_ms: Annotated[
        float, typer.Option(help="Length of a message in milliseconds, at most 1000.")
    ] = 250.0,
    replay_s: Annotated[
        float,
        typer.Option(help="So much of a live feed waits for a bus that is away; the bus keeps as much."),
    ] = 120.0,
    replicas: Annotated[int, typer.Option(help="On so many NATS servers, if they are not there yet.")] = 1,
) -> None:
    """Play a feed onto the bus.

    Example: `ecgedge cluster publish --bus nats://10.0.0.5:4222 --bed icu-1 --from "sim:stable?seed=1"`
    """
    from ecgedge.cli.bedside import parse_speed
    from ecgedge.cluster.bus import BusSettings
    from ecgedge.wards.config import BedConfig

    try:
        BedConfig(bed, source)
    except ValueError as error:
        raise UsageError(f"--bed: {error}") from error
    settings = BusSettings(replay_s=replay_s, replicas=replicas)
    asyncio.run(_publish(bus, settings, bed, source, chunk_s=chunk_ms / 1e3, speed=parse_speed(speed)))


async def _publish(
    uri: str, settings: BusSettings, bed: str, source: str, *, chunk_s: float, speed: float
) -> None:
    from ecgedge.cluster.bus import open_bus
    from ecgedge.cluster.publish import publish_feed

    bus = await open_bus(uri, settings=settings, say=say)
    try:
        playing = asyncio.create_task(
            publish_feed(bus, bed, source, chunk_s=chunk_s, replay_s=settings.replay_s, speed=speed, say=say)
        )
        _stop_by_signal(playing.cancel)
        try:
            done = await playing
        except asyncio.CancelledError:
            return
        dropped = f", {done.dropped} dropped" if done.dropped else ""
        typer.echo(f"{done.sent} messages of {bed} are on the bus{dropped}")
    finally:
        await bus.close()


@cluster_app.command()
def tell(
    bus: BusOption,
    do: Annotated[
        str,
        typer.Argument(help="status, acknowledge, pause_audio, resume_audio, calibrate or uncalibrate."),
    ],
    facts: Annotated[
        list[str], typer.Argument(help="name=BED and further key=value, as docs/ward.md lists them.")
    ],
    wait_s: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 15.0,
) -> None:
    """Tell a bed to do something, wherever it is served, and print its answer.

    Example: `ecgedge cluster tell --bus nats://bus:4222 acknowledge name=icu-1 condition=LEAD_OFF user="Nurse Seven"`
    """
    from ecgedge.cli.outputs import bed_name

    asked = facts_of(facts)
    bed = asked.pop("name", None)
    if bed is None:
        raise UsageError("name=BED is missing: which bed is it for?")
    answer = asyncio.run(_tell(bus, bed_name(bed), do, asked, wait_s))
    show_answer({key: answer[key] for key in ("ok", "error", "status") if key in answer})


async def _tell(uri: str, bed: str, do: str, asked: dict[str, Any], wait_s: float) -> dict[str, Any]:
    from ecgedge.cluster.bus import open_bus
    from ecgedge.cluster.tell import tell_bed

    bus = await open_bus(uri, say=say)
    try:
        return await tell_bed(bus, bed, do, asked, wait_s=wait_s)
    finally:
        await bus.close()


@cluster_app.command()
def journal(
    bus: BusOption,
    folder: Annotated[Path, typer.Option(help="One journal a bed comes here, NAME.jsonl; made if need be.")],
    max_mb: Annotated[
        float | None, typer.Option(help="A journal goes over several files of this size.")
    ] = None,
) -> None:
    """Write the hash-chained journals of all beds of a cluster, until a signal.

    Example: `ecgedge cluster journal --bus nats://10.0.0.5:4222 --folder journals`
    """
    from ecgedge.wards.config import SMALLEST_JOURNAL_MB

    if max_mb is not None and not SMALLEST_JOURNAL_MB <= max_mb < float("inf"):
        raise UsageError(f"--max-mb is {max_mb:g}; it must be a number from {SMALLEST_JOURNAL_MB:g} up")
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(_keep_journals(bus, folder, None if max_mb is None else round(max_mb * 1e6)))


async def _keep_journals(uri: str, folder: Path, rotate_bytes: int | None) -> None:
    from ecgedge.cluster.bus import open_bus
    from ecgedge.cluster.journal_keeper import JournalKeeper

    bus = await open_bus(uri, say=say)
    try:
        keeper = JournalKeeper(bus, folder, rotate_bytes=rotate_bytes, say=say)
        _stop_by_signal(keeper.stop)
        await keeper.run()
    finally:
        await bus.close()


@cluster_app.command()
def deliver(
    bus: BusOption,
    sink: Annotated[
        list[str] | None,
        typer.Option(help="Where events go, as docs/sinks.md shows them; repeat it for more."),
    ] = None,
    beds: Annotated[Path | None, typer.Option(help="A ward's file, of which the sinks count.")] = None,
) -> None:
    """Give the events of all beds of a cluster to sinks, until a signal; one process for all sinks.

    Example: `ecgedge cluster deliver --bus nats://10.0.0.5:4222 --sink mqtts://broker/ward`
    """
    from ecgedge.wards.config import load_ward

    sinks = [*(sink or []), *(load_ward(beds).ward.sinks if beds is not None else ())]
    if not sinks:
        raise UsageError("there is no sink: give --sink URI, or --beds FILE with sinks = [...] below [ward]")
    asyncio.run(_deliver(bus, tuple(dict.fromkeys(sinks))))


async def _deliver(uri: str, sinks: tuple[str, ...]) -> None:
    from ecgedge.cli.outputs import open_outputs
    from ecgedge.cluster.bus import open_bus
    from ecgedge.cluster.deliver import Deliverer, acknowledge_at

    async with AsyncExitStack() as opened:
        bus = await open_bus(uri, say=say)
        opened.push_async_callback(bus.close)
        outputs = await open_outputs(sinks, acknowledge=partial(acknowledge_at, bus), opened=opened)
        deliverer = Deliverer(bus, dict(zip(sinks, outputs, strict=True)), say=say)
        _stop_by_signal(deliverer.stop)
        await deliverer.run()
    if deliverer.dropped:
        lost = ", ".join(f"{n} with {why}" for why, n in deliverer.dropped.items())
        say(f"lines of the bus that were not delivered: {lost}")


def _stop_by_signal(stop: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
