"""The issuer's published keys: one fetch for all who wait, limited in time and size. A failure is remembered for a moment.

No invented key id and no slow issuer may hold up callers whose key is known, or take the threads that other pages need. Those who wait hold
no thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from jwt import PyJWK, PyJWKSet

log = logging.getLogger(__name__)

ALGORITHMS = ["RS256", "ES256", "EdDSA"]
"""Public-key signatures only. With `none` anybody could sign, and with HS256 anybody who knows the public key."""

LIFE = 300.0
"""Seconds for which a key set is used as it is."""

FAILED_FOR = 5.0
"""Seconds for which a failed fetch is an answer."""

TIMEOUT = 3.0
"""Seconds for connecting and for each read. The whole fetch has twice as long."""

LARGEST = 1 << 20


@dataclass(frozen=True)
class _Fetched:
    """What the last fetch brought: keys, or None if it failed. `at` is by the monotonic clock."""

    keys: dict[str, PyJWK] | None
    at: float


@dataclass
class KeySet:
    """The keys behind one address. Several threads and event loops may use it."""

    url: str
    cooldown: float = 30.0
    """Seconds between fetches because of unknown key ids."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: _Fetched | None = None
    _under_way: Future[_Fetched] | None = None

    async def key(self, kid: str) -> PyJWK | None:
        """Return the key of that id, or None if the issuer has none. Raises LookupError if nobody can find out just now."""
        last = self._last
        if last is None or self._is_old(last):
            last = await self._fetched()
        if last.keys is None:
            raise LookupError
        if kid not in last.keys and time.monotonic() - last.at >= self.cooldown:
            last = await self._fetched()
            if last.keys is None:
                raise LookupError
        return (last.keys or {}).get(kid)

    def _is_old(self, last: _Fetched) -> bool:
        return time.monotonic() - last.at >= (FAILED_FOR if last.keys is None else LIFE)

    async def _fetched(self) -> _Fetched:
        with self._lock:
            pending = self._under_way
            if pending is None:
                pending = self._under_way = Future()
                threading.Thread(target=self._fetch, args=(pending,), name="waybill-jwks", daemon=True).start()
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(pending)), 3 * TIMEOUT)
        except TimeoutError as error:
            raise LookupError from error

    def _fetch(self, pending: Future[_Fetched]) -> None:
        keys: dict[str, PyJWK] | None
        try:
            keys = _usable(_read(self.url))
        except Exception as error:  # noqa: BLE001 (whatever a strange answer breaks: those who wait must be told)
            log.warning("the issuer's keys could not be read from %s: %s: %s", self.url, type(error).__name__, error)
            keys = None
        found = _Fetched(keys, time.monotonic())
        with self._lock:
            self._last, self._under_way = found, None
        pending.set_result(found)


def is_safe(url: str) -> bool:
    """Return whether nobody on the way can change what this address answers: https, or http on the loopback address."""
    address = urlsplit(url)
    return address.scheme == "https" or (address.scheme == "http" and address.hostname in ("127.0.0.1", "::1", "localhost"))


class _SafeRedirects(HTTPRedirectHandler):
    """Follows an issuer that moved its keys, but never to an address where anybody on the way could replace them."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        return super().redirect_request(req, fp, code, msg, headers, newurl) if is_safe(newurl) else None


def _read(url: str) -> Any:
    """Raises OSError or ValueError. An issuer that sends a byte now and then is also given up in time."""
    deadline = time.monotonic() + 2 * TIMEOUT
    read = bytearray()
    asked = Request(url, headers={"Accept": "application/json"})  # noqa: S310 (https, or http on the loopback address)
    with build_opener(_SafeRedirects).open(asked, timeout=TIMEOUT) as answer:
        while block := answer.read1(65536):
            read += block
            if len(read) > LARGEST or time.monotonic() > deadline:
                raise ValueError("too large or too slow")
    return json.loads(read)


def _usable(document: Any) -> dict[str, PyJWK]:
    """Return the signing keys by id, of the kinds that count. Raises ValueError, or PyJWT's errors, if there is none."""
    keys = PyJWKSet.from_dict(document).keys
    signing = [key for key in keys if key.public_key_use in ("sig", None) and key.algorithm_name in ALGORITHMS]
    if found := {key.key_id: key for key in signing if isinstance(key.key_id, str) and key.key_id}:
        return found
    raise ValueError(f"no key with an id and of a kind that counts ({', '.join(ALGORITHMS)})")
