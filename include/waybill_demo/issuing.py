"""An issuer of OAuth2 tokens for demonstrations: one key made at the start, its key set served on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

AUDIENCE = "waybill-demo"
LIFE = timedelta(hours=12)


@dataclass(frozen=True)
class TokenIssuer:
    """Signs tokens that `waybill serve` accepts when it trusts the issuer at `url`."""

    url: str
    key: Ed25519PrivateKey = field(repr=False)

    def token(self, claims: Mapping[str, Any]) -> str:
        now = datetime.now(UTC)
        every = {"iss": self.url, "aud": AUDIENCE, "iat": now, "exp": now + LIFE, **claims}
        return jwt.encode(every, self.key, "EdDSA", headers={"kid": "demo"})


@contextmanager
def serve_issuer() -> Iterator[TokenIssuer]:
    """An issuer for the length of a block."""
    key = Ed25519PrivateKey.generate()
    public = {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "demo", "alg": "EdDSA", "use": "sig"}
    document = json.dumps({"keys": [public]}).encode()

    class KeySet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, format: str, *args: Any) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), KeySet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield TokenIssuer(f"http://127.0.0.1:{server.server_port}", key)
        finally:
            server.shutdown()
            thread.join()
