"""The library sdc11073, imported when it is needed, and what of it every user of it sets up alike."""

from __future__ import annotations

import logging
import socket
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgedge.errors import UsageError, missing_extra


@dataclass(frozen=True)
class Library:
    """What ecgedge uses of sdc11073. `bind` keeps hold of callbacks: else the library forgets whom nobody holds."""

    bind: Any
    consumer: Any
    definitions: Any
    dispatcher: Any
    discovery: Any
    location: Any
    operations: Any
    pm_types: Any
    provider: Any
    provider_mdib: Any
    ssl_contexts: Any
    this_device: Any
    this_model: Any


@dataclass(frozen=True)
class Certificates:
    """Files of ours: certificate, its key, and the authority whose certificates a peer's must be signed by.

    SDC asks for them on both sides, since each connects to the other.
    """

    cert: str
    key: str
    ca: str


def import_sdc() -> Library:
    """Return the library.

    Raises
    ------
    UsageError
        Naming the extra, if it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the library's own, at its import
            return _import()
    except ImportError as error:
        raise missing_extra(extra="sdc", package="sdc11073", purpose="IEEE 11073 SDC") from error


def _import() -> Library:
    from sdc11073 import observableproperties
    from sdc11073.certloader import mk_ssl_contexts
    from sdc11073.consumer import consumerimpl
    from sdc11073.definitions_sdc import SdcV1Definitions
    from sdc11073.dispatch import RequestDispatcher
    from sdc11073.location import SdcLocation
    from sdc11073.mdib.providermdib import ProviderMdib
    from sdc11073.provider import operations, providerimpl
    from sdc11073.wsdiscovery import WSDiscovery
    from sdc11073.xml_types import pm_types
    from sdc11073.xml_types.dpws_types import ThisDeviceType, ThisModelType

    # It tells of every peer that goes away, with a traceback; what of it matters comes as an event of the feed.
    logging.getLogger("sdc").setLevel(logging.CRITICAL + 1)
    return Library(
        bind=observableproperties.strongbind,
        consumer=consumerimpl,
        definitions=SdcV1Definitions,
        dispatcher=RequestDispatcher,
        discovery=WSDiscovery,
        location=SdcLocation,
        operations=operations,
        pm_types=pm_types,
        provider=providerimpl,
        provider_mdib=ProviderMdib,
        ssl_contexts=mk_ssl_contexts,
        this_device=ThisDeviceType,
        this_model=ThisModelType,
    )


def start_discovery(library: Library, adapter: str) -> Any:
    """Return WS-Discovery that runs on the network of this machine's address `adapter`.

    Raises
    ------
    UsageError
        If the address is not ours.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:  # the library would leave sockets open
            ours.bind((adapter, 0))
    except OSError as error:
        raise UsageError(
            f"{adapter} must be an address of this machine ({error.strerror or error})"
        ) from error
    discovery = library.discovery(adapter)
    discovery.start()
    return discovery


def ssl_contexts(library: Library, files: Certificates | None) -> Any:
    """Return what connections are wrapped in; None without TLS.

    Raises
    ------
    UsageError
        If a file cannot be read.
    """
    if files is None:
        return None
    try:
        return library.ssl_contexts(Path(files.key), Path(files.cert), Path(files.ca))
    except (OSError, ValueError) as error:
        raise UsageError(f"the certificates of SDC cannot be used: {error}") from error
