"""Feed `serial:/dev/ttyUSB0?baud=921600`: the bridge protocol over a serial line (UART, USB). Extra `serial`.

Time is the device's sample index, as on `tcp://`; results, alerts and questions go back over the same line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ecgedge.errors import FeedError
from ecgedge.feeds.eeb_feed import EebFeed, open_eeb
from ecgedge.feeds.serial_port import SerialPort, open_port
from ecgedge.feeds.tcp import SETTINGS_FORM, EebSettings, host_of, read_settings

BAUD: Final = 921_600
_OWN: Final = ("baud", "rtscts")
_EXAMPLE: Final = "serial:/dev/ttyUSB0?baud=921600"


@dataclass(frozen=True, kw_only=True)
class SerialAddress:
    """A `serial:` URI, read."""

    uri: str
    device: str
    baud: int
    rtscts: bool
    settings: EebSettings


def parse_serial_uri(uri: str) -> SerialAddress:
    """Read a `serial:` URI.

    Raises
    ------
    FeedError
        Naming what is missing or wrong, with an example.
    """
    try:
        return _parse(uri)
    except ValueError as error:
        raise FeedError(
            f"{uri}: {error}. Expected serial:DEVICE with, if wanted, baud=..., rtscts=0|1, {SETTINGS_FORM}; "
            f"for example {_EXAMPLE}"
        ) from error


def _parse(uri: str) -> SerialAddress:
    scheme, _, rest = uri.partition(":")
    device, _, query = rest.partition("?")
    if scheme != "serial" or not device or not device.isprintable():
        raise ValueError("the device is not there")
    settings, own = read_settings(query, own=_OWN)
    baud, rtscts = own.get("baud", str(BAUD)), own.get("rtscts", "0")
    if not baud.isascii() or not baud.isdigit() or not 300 <= int(baud) <= 20_000_000:
        raise ValueError(f"baud is '{baud}', not a number of bits a second from 300 to 20000000")
    if rtscts not in ("0", "1"):
        raise ValueError(f"rtscts is '{rtscts}', neither 0 nor 1")
    return SerialAddress(uri=uri, device=device, baud=int(baud), rtscts=rtscts == "1", settings=settings)


class SerialLink:
    """A port as a connection of the bridge."""

    framed = True

    def __init__(self, port: SerialPort) -> None:
        self._port = port

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return self._port.unsent

    async def receive(self) -> bytes | None:
        """Return what came; None once the port is closed here, FeedError when it is gone."""
        return await self._port.receive()

    def write(self, message: bytes) -> None:
        """Send, some time."""
        self._port.write(message)

    async def close(self) -> None:
        """Close the port; safe to call twice."""
        await self._port.close()


async def open_serial(uri: str, *, speed: float) -> EebFeed:
    """Open a serial port at whose other end a device speaks the bridge protocol.

    Parameters
    ----------
    uri
        `serial:DEVICE?baud=921600`, with the settings of `open_tcp` where the device sends no INFO; `rtscts=1` for flow
        control by wires. 8 data bits, no parity, one stop bit.
    speed
        Not used: a device keeps its own time.

    Raises
    ------
    FeedError
        When the URI is wrong, the port cannot be opened, or nothing says what the device sends.
    UsageError
        If pyserial is not installed.
    """
    del speed
    address = parse_serial_uri(uri)
    port = open_port(address.device, baud=address.baud, rtscts=address.rtscts, uri=uri)
    return await open_eeb(SerialLink(port), host_of(uri, address.settings), uri=uri)
