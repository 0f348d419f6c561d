"""A provider of ours on the network: its description in, transactions out; started and stopped in good order."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from ecgedge import __version__
from ecgedge.errors import UsageError
from ecgedge.sdc.library import Certificates, Library, ssl_contexts, start_discovery
from ecgedge.sdc.reading import MSG, PM, XSI

SUBSCRIPTION_S: Final = 15
"""A consumer that does not renew its subscription for so long is gone."""

NOTIFY_S: Final = 3
"""A consumer that does not take a report within this is gone; the others wait for it as long."""


@dataclass(frozen=True)
class Running:
    """A provider that is on the network; `stop` takes it away."""

    library: Library
    provider: Any
    discovery: Any

    @property
    def url(self) -> str:
        """Its address."""
        return str(self.provider.get_xaddrs()[0])

    @property
    def epr(self) -> str:
        """Its endpoint reference."""
        return str(self.provider.epr_urn)

    @property
    def mdib(self) -> Any:
        """What transactions are made on."""
        return self.provider.mdib

    def stop(self) -> None:
        """End all subscriptions, and release ports and threads."""
        for end in (self.provider.stop_all, self.discovery.stop):
            with suppress(Exception):  # whoever has gone before us
                end()


def description(mds: str) -> bytes:
    """Return an MDIB that holds one MDS, given as XML with the prefixes pm and xsi."""
    run = quoteattr(uuid.uuid4().urn)
    return (
        f'<msg:GetMdibResponse xmlns:msg="{MSG}" xmlns:pm="{PM}" xmlns:xsi="{XSI}" MdibVersion="0" SequenceId={run}>'
        f'<msg:Mdib MdibVersion="0" SequenceId={run}><pm:MdDescription DescriptionVersion="0">{mds}'
        "</pm:MdDescription></msg:Mdib></msg:GetMdibResponse>"
    ).encode()


def start_provider(
    library: Library,
    mdib: bytes,
    *,
    adapter: str,
    epr: str,
    name: str,
    certificates: Certificates | None,
    role: Any = None,
) -> Running:
    """Put a provider on the network of this machine's address `adapter`.

    Parameters
    ----------
    mdib
        As `description` makes it.
    epr
        Endpoint reference, a UUID.
    role
        Class of the library's role provider, which registers operations; None for none.

    Raises
    ------
    UsageError
        If `adapter` is not ours, `epr` no UUID, or a certificate cannot be read.
    """
    try:
        reference = uuid.UUID(epr.removeprefix("urn:uuid:"))
    except ValueError as error:
        raise UsageError(f"epr is {epr!r}; expected a UUID, for example {uuid.uuid4()}") from error
    contexts = ssl_contexts(library, certificates)
    parts = library.provider.provider_components_sync_factory()
    roles = library.provider.RoleProviderComponents(role_provider_class=role)
    made = library.provider_mdib.from_string(mdib)
    discovery = start_discovery(library, adapter)
    provider = library.provider.SdcProvider(
        discovery,
        library.this_model("ecgedge", "", "ecgedge (research use only)", __version__, "", ""),
        library.this_device(name, __version__, str(reference)),
        made,
        reference,
        ssl_context_container=contexts,
        max_subscription_duration=SUBSCRIPTION_S,
        socket_timeout=NOTIFY_S,
        components=parts,
        role_provider_components=roles,
    )
    running = Running(library, provider, discovery)
    try:
        provider.start_all(start_rtsample_loop=False)
        provider.publish()
    except BaseException:
        running.stop()
        raise
    return running
