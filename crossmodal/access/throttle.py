"""How often callers may ask, and how many wrong keys they may try: the one rule of every protocol."""

from __future__ import annotations

import ipaddress
import math
import time
from typing import Literal

from crossmodal.access.policy import Access, Caller
from crossmodal.access.rates import RateLimit
from crossmodal.access.shared_table import SharedTable
from crossmodal.errors import RequestError
from crossmodal.settings import Settings

__all__ = ["Throttle", "TooMany", "counted_address"]

# Wrong keys of one address: so many at once, and then one in two seconds.
_WRONG_AT_ONCE = 10
_WRONG_A_MINUTE = 30

# An address that has shown a key is not locked out with that one by others behind the same address.
_KNOWN_SECONDS = 3600.0

# A provider gives a customer at least so much of IPv6.
_CUSTOMER_BITS = 64


class TooMany(RequestError):
    """A caller comes too often; ``seconds`` is how long to wait."""

    def __init__(self, what: str, seconds: float) -> None:
        self.seconds = math.ceil(seconds)
        super().__init__(f"{what}; try again in {self.seconds} seconds.", status=429)


class Throttle:
    """Whose keys are looked at, and who has asked enough; ``rates`` holds what is counted."""

    def __init__(self, settings: Settings, access: Access, rates: SharedTable) -> None:
        self._access = access
        self._rates = rates
        self._wrong = RateLimit(rates, "wrong ", _WRONG_A_MINUTE, _WRONG_AT_ONCE)
        self._limit = settings.rate_limit
        self._rate = RateLimit(rates, "rate ", self._limit, self._limit) if self._limit else None

    @property
    def limited(self) -> bool:
        """Whether callers may come only so often, so that there is something to count."""
        return self._rate is not None

    def identify(self, address: str, secret: str) -> Caller:
        """Who has the key; after many wrong ones, only keys that came from there before are looked at.

        Raises RequestError, 401, for a wrong key, and TooMany where too many came from ``address``.
        """
        known = f"known {address} {secret}"
        wait = self._wrong.wait(address)
        if wait > 0 and self._rates.get(known) is None:
            raise TooMany(f"Too many wrong keys came from {address}", wait)
        try:
            caller = self._access.identify(secret)
        except RequestError:
            self._wrong.take(address)
            raise
        self._rates.put(known, time.monotonic() + _KNOWN_SECONDS)
        return caller

    def count(self, kind: Literal["address", "key"], who: str) -> None:
        """Counts one request; raises TooMany beyond --rate-limit of that address or key (its SHA-256)."""
        if self._rate is not None and (wait := self._rate.take(f"{kind} {who}")):
            raise TooMany(
                f"More than {self._limit:,} requests a minute came from this {kind} (--rate-limit)", wait
            )


def counted_address(text: str) -> str:
    """The address that is counted: of IPv6, the network of a customer."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, _CUSTOMER_BITS), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)
