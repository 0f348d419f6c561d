"""Outputs by URI: where the events of one bed or of a ward's beds go over a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ecgedge.errors import UsageError
from ecgedge.sinks.fhir import open_fhir
from ecgedge.sinks.hl7 import open_hl7_sink
from ecgedge.sinks.mqtt import open_mqtt_sink
from ecgedge.sinks.outbox import Outbox, Output, Receiver
from ecgedge.sinks.prometheus import open_prometheus
from ecgedge.sinks.sdc import Acknowledge, open_sdc_sink
from ecgedge.sinks.webhook import open_webhook

_RECEIVERS: Final[dict[str, Callable[[str], Receiver]]] = {
    "mqtt": open_mqtt_sink,
    "mqtts": open_mqtt_sink,
    "mllp": open_hl7_sink,
    "mllps": open_hl7_sink,
    "webhook": open_webhook,
    "fhir": open_fhir,
}

SCHEMES: Final = (*_RECEIVERS, "sdc", "sdcs", "prometheus")


async def open_output(
    uri: str, *, say: Callable[[str], None], acknowledge: Acknowledge | None = None
) -> Output:
    """Open the output that `uri` names.

    What it must tell people goes to `say`, what a user acknowledges there to `acknowledge`. A receiver that does not
    answer yet is no error: events wait for it.

    Raises
    ------
    UsageError
        On an unknown scheme or setting, a secret that cannot be read, or an address that is not ours to listen on.
    """
    scheme = uri.partition(":")[0]
    if scheme == "prometheus":
        return await open_prometheus(uri)
    if scheme in ("sdc", "sdcs"):
        return Outbox(open_sdc_sink(uri, acknowledge=acknowledge, say=say), say=say)
    if scheme not in _RECEIVERS:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise UsageError(
            f"cannot open sink {uri!r}; expected one of {known} for example mqtt://127.0.0.1/ward"
        )
    return Outbox(_RECEIVERS[scheme](uri), say=say)
