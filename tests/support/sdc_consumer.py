"""A consumer in plain sdc11073: says as JSON lines what it hears of one provider, and acknowledges what it is told to.

Words: the provider's address, and for TLS the files of certificate, key and authority.
"""

import json
import logging
import sys
from pathlib import Path

from sdc11073 import observableproperties
from sdc11073.certloader import mk_ssl_contexts
from sdc11073.consumer.consumerimpl import SdcConsumer
from sdc11073.definitions_sdc import SdcV1Definitions
from sdc11073.mdib.consumermdib import ConsumerMdib
from sdc11073.xml_types import pm_types

logging.disable(logging.CRITICAL)


def say(**facts):
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def metrics(states):
    found = {}
    for handle, state in states.items():
        value = state.MetricValue
        found[handle] = {
            "value": None if value.Value is None else float(value.Value),
            "validity": value.MetricQuality.Validity.value,
            "qi": float(value.MetricQuality.Qi),
            "mode": value.MetricQuality.Mode.value,
        }
    say(**found)


def alerts(states):
    found = {}
    for handle, state in states.items():
        if handle.startswith("signal."):
            found[handle] = {"presence": state.Presence.value, "active": state.ActivationState.value}
        elif handle != "alerts":
            found[handle] = {"presence": bool(state.Presence), "priority": state.ActualPriority.value}
    say(**found)


def main(url, *files):
    contexts = None
    if files:
        cert, key, ca = map(Path, files)
        contexts = mk_ssl_contexts(key, cert, ca)
    consumer = SdcConsumer(url, SdcV1Definitions, contexts, force_ssl_connect=contexts is not None)
    consumer.start_all()
    mdib = ConsumerMdib(consumer)
    mdib.init_mdib()
    names = mdib.data_model.pm_names
    described = mdib.descriptions.NODETYPE.get(names.NumericMetricDescriptor)
    limit = mdib.states.descriptor_handle.get_one("MPCWP_ELEVATED").Limits.Upper
    (location,) = mdib.context_states.descriptor_handle.get("location")
    observableproperties.bind(mdib, metrics_by_handle=metrics, alert_by_handle=alerts)
    (mpcwp,) = [d for d in described if d.Handle == "mpcwp"]
    say(
        category={d.Handle: d.MetricCategory.value for d in described},
        text=mpcwp.Type.ConceptDescription[0].text,
        lifetime_s=mpcwp.LifeTimePeriod,
        bed=location.LocationDetail.Bed,
        limit=float(limit),
    )
    for line in sys.stdin:
        operation = f"acknowledge.{line.strip()}"
        target = f"signal.{line.strip()}"
        service = consumer.set_service_client
        proposed = mdib.data_model.get_state_container_class(names.AlertSignalState)(
            mdib.descriptions.handle.get_one(target)
        )
        proposed.Presence = pm_types.AlertSignalPresence.ACK
        result = service.set_alert_state(operation, proposed).result(timeout=60)
        why = "".join(text.text for text in result.InvocationInfo.InvocationErrorMessage)
        say(answer=result.InvocationInfo.InvocationState.value, why=why)


main(*sys.argv[1:])
