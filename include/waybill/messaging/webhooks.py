"""Calls a webhook with a signed POST, as the Standard Webhooks specification says (standardwebhooks.com), so that libraries verify it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from waybill.connection import Connection
from waybill.errors import PermanentError, TransientError

SECONDS = 10.0
"""Seconds that a server may take to answer. A consumer takes the message first and works on it afterwards."""

_SLACK = "https://hooks.slack.com/services"
_PREFIX = "whsec_"


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return `v1,` and the Base64 HMAC-SHA256 of `id.timestamp.body`. A secret after `whsec_` is Base64; any other secret is the key
    itself.
    """
    signed = b".".join([message_id.encode(), str(timestamp).encode(), body])
    return "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def signed_headers(connection: Connection, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that a consumer verifies a message by. Raises PermanentError if the connection holds no secret."""
    if not connection.password:
        raise PermanentError(
            f"the connection {connection.id} holds no secret to sign with",
            next_step="Set its password to the secret that the consumer verifies with",
            code="webhook_secret",
        )
    if not _key(connection.password):
        what = f"the secret of the connection {connection.id} is empty after {_PREFIX}, so anybody could sign with it"
        raise PermanentError(what, next_step="Set its password to the secret that the consumer verifies with", code="webhook_secret")
    signed = signature(connection.password, message_id, timestamp, body)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signed}


def _key(secret: str) -> bytes:
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error as error:
            raise PermanentError(
                "the secret after whsec_ is not Base64", next_step="Correct the connection", code="webhook_secret"
            ) from error
    return secret.encode()


def url_of(connection: Connection) -> str:
    """Return the address of a connection: its host, if that is a whole URL, or host, port and schema combined as in Airflow's HttpHook."""
    if "://" in connection.host:
        return connection.host
    if not connection.host:
        raise PermanentError(f"the connection {connection.id} names no host", next_step="Set its host to the URL", code="connection")
    port = f":{connection.port}" if connection.port else ""
    return f"{connection.schema or 'https'}://{connection.host}{port}{connection.extra.get('endpoint', '')}"


def slack_url_of(connection: Connection) -> str:
    """Return the incoming webhook of a slackwebhook connection: host and token as in Airflow's SlackWebhookHook, or a URL as the
    password.
    """
    if connection.password.startswith("https://"):
        return connection.password
    if not connection.password:
        raise PermanentError(
            f"the connection {connection.id} holds no webhook token", next_step="Set its password to T000/B000/XXXX", code="connection"
        )
    host = connection.host or _SLACK
    base = host if "://" in host else f"{connection.schema or 'https'}://{host}" + (f":{connection.port}" if connection.port else "")
    return f"{base.rstrip('/')}/{connection.password.lstrip('/')}"


def host_and_port(url: str) -> tuple[str, int]:
    """Return the host and port behind an address. Raises PermanentError if it is none, and does not repeat it: it may hold a token."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise PermanentError(
            "the address of the webhook is no URL", next_step="Correct the host of the connection", code="webhook_url"
        ) from None


def post(url: str, body: bytes, headers: Mapping[str, str], *, where: str, address: str = "", seconds: float = SECONDS) -> None:
    """POST JSON once. Only 2xx within `seconds` counts, and redirects are not followed. Nothing else of an answer is read.

    `address` pins the address to connect to, whatever the name resolves to by now. Raises TransientError, and what `host_and_port` raises.
    No message contains the answer's words or the URL, which may hold a token.
    """
    import httpx

    host_and_port(url)
    sent, extensions = {"content-type": "application/json", "user-agent": "Waybill", **headers}, {}
    try:
        target = httpx.URL(url)
        if address:  # the name goes along as the network spells it, in ASCII
            sent["host"], extensions = target.netloc.decode(), {"sni_hostname": target.raw_host.decode()}
            target = target.copy_with(host=address)
    except httpx.InvalidURL as error:
        raise _not_taken(type(error).__name__, where) from error

    async def status() -> int:
        # This limits the whole call. httpx's own limit starts again with every byte that a slow server sends.
        async with asyncio.timeout(seconds):
            # A pinned address is connected to directly, because a proxy would look the name up again.
            async with (
                httpx.AsyncClient(timeout=seconds, follow_redirects=False, trust_env=not address) as client,
                client.stream("POST", target, content=body, headers=sent, extensions=extensions) as answer,
            ):
                return answer.status_code

    try:
        code = asyncio.run(status())
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise _not_taken(type(error).__name__, where) from error
    if not 200 <= code < 300:
        raise _not_taken(f"HTTP {code}", where)


def _not_taken(reason: str, where: str) -> TransientError:
    return TransientError(f"the message was not taken ({reason})", where=where, next_step="It is sent again later", code="webhook")
