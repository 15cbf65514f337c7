"""Detached signatures of manifests, in the form that `ssh-keygen -Y sign` writes and `ssh-keygen -Y verify` checks (Ed25519 only).

A signature is beside its manifest as `<manifest>.sig`. It says that the holder of a private key made exactly these bytes. A manifest holds
the hash of every file, of the delivery before, and of that one's manifest. So nobody can change a file and its manifest unseen.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import struct
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from waybill_consumer.errors import Refused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SUFFIX = ".sig"
NAMESPACE = "waybill"
"""What `ssh-keygen -Y verify` calls the namespace (`-n`), and the name of the signer (`-I`). A signature for another purpose is refused."""

_MAGIC = b"SSHSIG"
_KIND = "ssh-ed25519"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_HASHES = {"sha512": hashlib.sha512, "sha256": hashlib.sha256}
_MOST = 4096
"""A signature has some 300 bytes. Nothing longer is read."""
_FORMS = "a line such as `ssh-ed25519 AAAA...`, or a file of such lines (an allowed_signers file, or a .pub file)"


class Key(NamedTuple):
    """A public key whose signatures count. `data` is the key as SSH writes it on the wire."""

    data: bytes

    @property
    def fingerprint(self) -> str:
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.data).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """The key as a .pub file holds it."""
        return f"{_KIND} {base64.b64encode(self.data).decode()}"

    @property
    def allowed_signers(self) -> str:
        """The line of an allowed_signers file."""
        return f'{NAMESPACE} namespaces="{NAMESPACE}" {self.line}'


class Wrong(Refused):
    """A document is unsigned, or its signature does not count."""


class _Signature(NamedTuple):
    key: Key
    namespace: str
    hash: str
    value: bytes


def sign(document: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return the signature file of a document. The same key and document give the same bytes."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    value = key.sign(_signed(document, NAMESPACE, "sha512"))
    blob = _MAGIC + struct.pack(">I", 1) + _packed(_packed(_KIND, raw), NAMESPACE, "", "sha512", _packed(_KIND, value))
    text = base64.b64encode(blob).decode()
    lines = [text[start : start + 70] for start in range(0, len(text), 70)]
    return "\n".join([_BEGIN, *lines, _END, ""]).encode()


def public(key: Ed25519PrivateKey) -> Key:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return Key(_packed(_KIND, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)))


def signer(document: bytes, signature: bytes) -> Key:
    """Return the key of a signature. Raises Wrong if it is no signature of exactly this document."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    found = _parse(signature)
    if found.namespace != NAMESPACE:
        raise Wrong(f"its signature was made for another purpose ({found.namespace[:40]!r} instead of {NAMESPACE!r})")
    try:
        key = Ed25519PublicKey.from_public_bytes(_strings(found.key.data)[1])
        key.verify(found.value, _signed(document, found.namespace, found.hash))
    except (InvalidSignature, ValueError):
        raise Wrong("its signature is not of these bytes: one of the two was changed after it was signed") from None
    return found.key


def require(document: bytes, signature: bytes | None, signers: Sequence[Key]) -> None:
    """Raises Wrong unless one of `signers` signed exactly this document."""
    if signature is None:
        raise Wrong("is not signed, and only manifests of a known signer count")
    key = signer(document, signature)
    if key not in signers:
        raise Wrong(
            f"is signed by {key.fingerprint}, which is none of the known signers ({', '.join(signer.fingerprint for signer in signers)})"
        )


def read_signers(words: Iterable[str]) -> tuple[Key, ...]:
    """Return the keys that some words name: each is a key's line, or a file of lines. Raises Refused for what is neither, or holds
    no key.
    """
    found: list[Key] = []
    for word in words:
        lines = [word] if f"{_KIND} " in word else _file(word)
        keys = [key for line in lines if (key := _key(line, "--signer" if lines == [word] else word)) is not None]
        if not keys:
            raise Refused("holds no key of a signer", where=word, next_step=f"Give {_FORMS}")
        found += keys
    return tuple(dict.fromkeys(found))


def _file(name: str) -> list[str]:
    path = Path(name).expanduser()
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise Refused("is neither a key nor a file", where=name[:80], next_step=f"Give {_FORMS}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}", where=name) from None


def _key(line: str, where: str) -> Key | None:
    """Return the key of a line of an allowed_signers or .pub file, or None for a comment, another signer's key, or another purpose's.

    Raises Refused for conditions that this program does not check. Ignoring one would let more pass than the line says.
    """
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    before, is_ours, rest = line.partition(f"{_KIND} ")
    try:
        names, *conditions = shlex.split(before.strip() or NAMESPACE, posix=False)
    except ValueError:
        raise Refused("holds a line with a quote that nothing closes", where=where, next_step=f"Give {_FORMS}") from None
    if not names.startswith(("ssh-", "ecdsa-", "sk-")) and not _is_meant(names.strip('"').split(",")):
        return None
    if not is_ours:
        raise Refused("holds a key that is not Ed25519", where=where, next_step=f"Give {_FORMS}")
    for condition in re.findall(r'[A-Za-z-]+(?:="[^"]*")?', ",".join(conditions)):
        name, _, value = condition.partition("=")
        if name.lower() != "namespaces":
            raise Refused(f"restricts a key by {name}, which this program does not check", where=where, next_step="Take it out")
        if not _is_meant(value.strip('"').split(",")):
            return None
    try:
        data = base64.b64decode(rest.split()[0], validate=True)
        kind, raw = _strings(data)
        is_whole = (kind, len(raw)) == (_KIND.encode(), 32)
    except (IndexError, ValueError, struct.error):
        is_whole = False
    if not is_whole:
        raise Refused("holds a key that is damaged", where=where, next_step=f"Give {_FORMS}")
    return Key(data)


def _is_meant(patterns: Sequence[str]) -> bool:
    """Return whether a list of names, as ssh matches them, holds this program's own."""
    left_out = any(fnmatchcase(NAMESPACE, pattern[1:]) for pattern in patterns if pattern.startswith("!"))
    return not left_out and any(fnmatchcase(NAMESPACE, pattern) for pattern in patterns)


def _parse(signature: bytes) -> _Signature:
    damaged = Wrong("its signature cannot be read: it is no SSH signature of Ed25519")
    lines = signature[: _MOST + 1].decode("ascii", "replace").split()
    text = " ".join(lines)
    if len(signature) > _MOST or not text.startswith(_BEGIN) or not text.endswith(_END):
        raise damaged
    try:
        blob = base64.b64decode(text.removeprefix(_BEGIN).removesuffix(_END).replace(" ", ""), validate=True)
        if blob[:10] != _MAGIC + struct.pack(">I", 1):
            raise damaged
        key, namespace, _, hashed, inner = _strings(blob[10:])
        (kind, raw), (kind_again, value) = _strings(key), _strings(inner)
        known = (kind, kind_again, len(raw)) == (_KIND.encode(), _KIND.encode(), 32) and hashed.decode() in _HASHES
        if not known:
            raise damaged
        return _Signature(Key(key), namespace.decode(), hashed.decode(), value)
    except (ValueError, struct.error):
        raise damaged from None


def _signed(document: bytes, namespace: str, hashed: str) -> bytes:
    return _MAGIC + _packed(namespace, "", hashed, _HASHES[hashed](document).digest())


def _packed(*values: str | bytes) -> bytes:
    """Return strings as SSH writes them: each after its length."""
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return b"".join(struct.pack(">I", len(value)) + value for value in encoded)


def _strings(data: bytes) -> list[bytes]:
    """Return strings as `_packed` wrote them. Raises ValueError or struct.error if a length is wrong."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 4 + length > len(data):
            raise ValueError("a string ends too soon")
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found
