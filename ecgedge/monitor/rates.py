"""How often something may be done: a bucket of tokens for each who does it, and no more memory than so many buckets."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST_BUCKETS: Final = 4096


class Rate:
    """So many at once, and `per_s` more each second, for each key.

    Parameters
    ----------
    burst, per_s
        At once, and again.
    now_s
        A clock that is never set.
    """

    def __init__(self, *, burst: float, per_s: float, now_s: Callable[[], float]) -> None:
        self._burst, self._per_s, self._now_s = burst, per_s, now_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> bool:
        """Take one, if there is one."""
        left, now_s = self._left(key), self._now_s()
        taken = left >= 1.0
        self._keep(key, left - taken, now_s)
        return taken

    def give_back(self, key: str) -> None:
        """Take back that one was taken."""
        self._keep(key, min(self._burst, self._left(key) + 1.0), self._now_s())

    def _left(self, key: str) -> float:
        left, then_s = self._buckets.get(key, (self._burst, 0.0))
        return (
            min(self._burst, left + (self._now_s() - then_s) * self._per_s) if key in self._buckets else left
        )

    def _keep(self, key: str, left: float, now_s: float) -> None:
        self._buckets[key] = (left, now_s)
        self._buckets.move_to_end(key)
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or an IPv6 /64, which one machine has whole."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network(f"{found}/64", strict=False))
    return str(found)
