"""Encrypts files to one OpenPGP key with GnuPG's own program.

gpg runs in a folder of its own, which is removed afterwards. It sees no keyring, agent or setting of the machine. Only public keys pass
through here, so nothing secret is ever on the disk or in a command line.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from waybill.errors import PermanentError, TransientError
from waybill.language import tell
from waybill.sink import Plain, Sink

LEAST_BITS = 2048
"""RSA and ElGamal keys with fewer bits are refused as weak."""
SECONDS = 60
"""Seconds. gpg looks at a key, or encrypts a few bytes, in a fraction of a second."""

_BLOCK = 1 << 16
_BY_BITS = {"1": "RSA", "2": "RSA", "3": "RSA", "16": "ElGamal", "17": "DSA"}
_UNUSABLE = {"e": "expired", "r": "revoked", "d": "disabled", "i": "invalid"}
_STEP = "Register the consumer's current public key: `gpg --armor --export FINGERPRINT`"
_ARMOR = re.compile(r"-----BEGIN PGP [A-Z ]+-----\s*\n(.*?)-----END PGP [A-Z ]+-----", re.DOTALL)
_OF_KEYS = {2, 5, 6, 7, 10, 12, 13, 14, 17, 21}
"""The kinds of packets that keys consist of: keys and their parts, names, pictures, signatures, trust, markers and padding (RFC 9580)."""


@dataclass(frozen=True)
class Recipient:
    """The receiver of the files: a public key that was checked, and its fingerprint."""

    key: str
    fingerprint: str


class UnusableKey(PermanentError):
    """Nothing may be encrypted to this public key."""

    code = "pgp_key"


_LOOKED_AT_FOR = 60.0
"""Seconds for which a good key is not checked again. The deliveries of a run begin at the same time, and gpg starts slowly.

gpg itself refuses a key that expires meanwhile.
"""
_good: dict[str, tuple[float, Recipient]] = {}
_looking = threading.Lock()


def recipient(key: str) -> Recipient:
    """Check an armored public key. Raises UnusableKey with the reason: expired, revoked, for signatures only, weak, several, none."""
    with _looking:
        now = time.monotonic()
        for other in [other for other, (at, _) in _good.items() if now - at > _LOOKED_AT_FOR]:
            del _good[other]
        if key not in _good:
            _good[key] = now, _looked_at(key)
        return _good[key][1]


def _looked_at(key: str) -> Recipient:
    with _home() as home:
        path = _written(home, key)
        shown = _run(home, ["--with-colons", "--import-options", "show-only", "--import", path])
        fingerprint = _judged([line.split(":") for line in shown.stdout.decode(errors="replace").splitlines()])
    return Recipient(key, fingerprint)


def rehearse(key: str) -> Recipient:
    """Do what `recipient` does, and encrypt a few bytes to the key. If gpg refuses the key, it refuses it now."""
    found = _looked_at(key)
    with _home() as home:
        done = _run(home, _encryption(_written(home, key)), b"a rehearsal")
        if done.returncode or not done.stdout:
            raise UnusableKey(tell("pgp.refused", fingerprint=found.fingerprint, said=_said(done.stderr, home)), next_step=_STEP)
    return found


def _judged(rows: list[list[str]]) -> str:
    """Return the fingerprint of the one usable key in gpg's listing. `rows` has one row for each line."""
    if any(row[0] in ("sec", "ssb") for row in rows):
        step = "Take it out and treat it as known to others: the consumer makes a new one and hands over the public half only"
        raise UnusableKey(tell("pgp.private"), next_step=step)
    primary = [row for row in rows if row[0] == "pub"]
    if len(primary) != 1:
        what = tell("pgp.several", keys=len(primary)) if primary else tell("pgp.none")
        raise UnusableKey(what, next_step=_STEP)
    fingerprint = next((row[9] for row in rows if row[0] == "fpr"), "")
    if why := _why_unusable(primary[0]) or _why_weak(primary[0]) or _why_unread([row for row in rows if row[0] in ("pub", "sub")]):
        raise UnusableKey(tell("pgp.unusable", fingerprint=fingerprint, why=why), next_step=_STEP)
    return fingerprint


def _why_unread(parts: list[list[str]]) -> str:
    """Return why nothing can be encrypted safely to any part of a key. gpg itself chooses among the parts that may be used."""
    readers = [row for row in parts if "e" in row[11]]
    if not readers:
        return tell("pgp.signs_only")
    usable = [row for row in readers if not _why_unusable(row)]
    if not usable:
        return tell("pgp.no_part", why=_why_unusable(readers[0]))
    return next((why for row in usable if (why := _why_weak(row))), "")


def _why_unusable(row: list[str]) -> str:
    why = _UNUSABLE.get(row[1][:1])
    return tell(f"pgp.{why}") if why else ""


def _why_weak(row: list[str]) -> str:
    kind, bits = _BY_BITS.get(row[3]), int(row[2] or 0)
    return tell("pgp.weak", kind=kind, bits=bits, least=LEAST_BITS) if kind and bits < LEAST_BITS else ""


class Encryption:
    """Encrypts files to one key. It is a context manager: files that are not finished when the block ends are given up.

    A gpg that neither takes nor ends anything for `seconds` is given up, too.
    """

    def __init__(self, to: Recipient, *, seconds: float = SECONDS) -> None:
        self._to = to
        self._seconds = seconds
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._files: dict[int, _Encrypted] = {}

    def __enter__(self) -> Encryption:
        self._home = self._stack.enter_context(_home())
        self._key = _written(self._home, self._to.key)
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.discard()
        self._stack.close()

    def sink(self, number: int, inner: Sink) -> Sink:
        """Return the sink for the plain bytes of file `number`. It hands the encrypted bytes to `inner`. Several threads may call this."""
        encrypted = _Encrypted(self._home, _encryption(self._key), inner, self._seconds)
        with self._lock:
            self._files[number] = encrypted
        return encrypted

    def plain(self, number: int) -> Plain:
        """Return what a finished file was before."""
        return self._files[number].plain


class _Encrypted:
    """One file on its way through gpg. A thread carries what gpg writes to the sink, and memory holds no more than a pipe and a block."""

    def __init__(self, home: str, words: list[str], inner: Sink, seconds: float) -> None:
        self._home = home
        self._inner = inner
        self._seconds = seconds
        self._hash = hashlib.sha256()
        self._read = 0
        self._error: BaseException | None = None
        self._process = _started(_command(home, words))
        os.set_blocking(_pipe(self._process.stdin).fileno(), False)
        self._carrier = threading.Thread(target=self._carry, name="gpg")
        self._carrier.start()

    @property
    def plain(self) -> Plain:
        return Plain(self._read, self._hash.hexdigest())

    def write(self, block: bytes | memoryview) -> None:
        """Raises what the sink raised, or TransientError if gpg has ended or takes nothing."""
        left = memoryview(block)
        try:
            pipe = _pipe(self._process.stdin).fileno()
            while left:
                left = left[self._taken(pipe, left) :]
        except (BrokenPipeError, ValueError):
            self._ended()
        self._hash.update(block)
        self._read += len(block)
        if self._error is not None:
            raise self._error

    def _taken(self, pipe: int, block: memoryview) -> int:
        """Return how many bytes of a block gpg has just taken. It is at least one."""
        room = select.poll()
        room.register(pipe, select.POLLOUT)
        while room.poll(self._seconds * 1000):
            try:
                return os.write(pipe, block)
            except BlockingIOError:
                continue
        raise self._silent()

    def finish(self) -> None:
        _pipe(self._process.stdin).close()
        self._carrier.join(self._seconds)
        if self._carrier.is_alive():
            raise self._silent()
        if self._error is not None or self._process.wait():
            self._ended()
        _pipe(self._process.stderr).close()
        self._inner.finish()

    def discard(self) -> None:
        """Give the file up. Nothing happens to a finished file."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._carrier.join()
        for pipe in (self._process.stdin, self._process.stderr):
            try:
                _pipe(pipe).close()
            except OSError:  # nobody wants what was not written
                continue

    @property
    def sha256(self) -> str:
        return self._inner.sha256

    @property
    def bytes(self) -> int:
        return self._inner.bytes

    def _carry(self) -> None:
        with _pipe(self._process.stdout) as out:
            try:
                while block := out.read(_BLOCK):
                    self._inner.write(block)
            except BaseException as error:  # noqa: BLE001 (raised again where the file is written)
                self._error = error
                self._process.kill()

    def _silent(self) -> TransientError:
        """Give up a gpg that does not go on."""
        self.discard()
        seconds = f"{self._seconds:g}"
        return TransientError(f"gpg took nothing for {seconds} seconds", next_step="The next run tries again", code="gpg")

    def _ended(self) -> None:
        self._carrier.join(self._seconds)
        self._process.kill()
        self._carrier.join()
        self._process.wait()
        if self._error is not None:
            raise self._error
        output = _said(_pipe(self._process.stderr).read(), self._home)
        raise TransientError(f"gpg ended while it encrypted: {output}", next_step="The next run tries again", code="gpg")


@contextmanager
def _home() -> Iterator[str]:
    """Make a folder for gpg alone: its mode is 0700, and it is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="waybill-gpg-", ignore_cleanup_errors=True) as folder:
        yield folder


def _written(home: str, key: str) -> str:
    path = Path(home) / "recipient.pgp"
    path.write_bytes(_packets(key))
    return str(path)


def _packets(key: str) -> bytes:
    """Return the bytes of a key without their armor. gpg gets these, so it reads nothing that was not checked here.

    Raises UnusableKey for packets that no key consists of: gpg would unpack compressed data, and a few kilobytes of it can keep gpg busy
    for hours.
    """
    try:
        data = b"".join(_without_armor(block) for block in _ARMOR.findall(key))
        kinds = set(_kinds(data))
    except (binascii.Error, ValueError, IndexError) as error:
        raise UnusableKey(tell("pgp.none"), next_step=_STEP) from error
    if kinds - _OF_KEYS:
        raise UnusableKey(tell("pgp.besides"), next_step=_STEP)
    return data


def _without_armor(block: str) -> bytes:
    """Decode a block. A header contains a colon. The checksum begins with `=` and is left out, because signatures say more."""
    lines = (line.strip() for line in block.splitlines())
    return base64.b64decode("".join(line for line in lines if ":" not in line and not line.startswith("=")), validate=True)


def _kinds(data: bytes) -> Iterator[int]:
    """Return the kind of each packet. Raises ValueError or IndexError for a packet that is cut off or has no length of its own."""
    at = 0
    while at < len(data):
        head, first = data[at], data[at + 1]
        if not head & 0x80:
            raise ValueError("no packet begins here")
        if head & 0x40:
            kind, width = head & 0x3F, 1 if first < 192 else 2 if first < 224 else 5
            if 224 <= first < 255:
                raise ValueError("a packet in pieces")
            length = first if width == 1 else (first - 192 << 8) + data[at + 2] + 192 if width == 2 else _number(data[at + 2 : at + 6])
        else:
            kind, width = head >> 2 & 0x0F, 1 << (head & 3)
            if width == 8:
                raise ValueError("a packet without a length")
            length = _number(data[at + 1 : at + 1 + width])
        at += 1 + width + length
        if at > len(data):
            raise ValueError("a packet that is cut off")
        yield kind


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _encryption(key: str) -> list[str]:
    """AES-256 with integrity protection, and no compression: a tenant who wants compressed files gets them compressed before."""
    ciphers = ["--cipher-algo", "AES256", "--compress-algo", "none", "--trust-model", "always"]
    return [*ciphers, "--recipient-file", key, "--output", "-", "--encrypt"]


def _command(home: str, words: list[str]) -> list[str]:
    return ["gpg", "--homedir", home, "--no-options", "--batch", "--no-tty", "--quiet", "--no-autostart", *words]


def _run(home: str, words: list[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(_command(home, words), input=data, capture_output=True, timeout=SECONDS, check=False)
    except FileNotFoundError as error:
        raise _missing() from error
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"gpg did not answer within {SECONDS} seconds", next_step="Try again", code="gpg") from error


def _started(command: list[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    except FileNotFoundError as error:
        raise _missing() from error


def _missing() -> PermanentError:
    step = "Install GnuPG on every machine that delivers (Debian: apt-get install gnupg)"
    return PermanentError("files are to be encrypted, and there is no program gpg", next_step=step, code="gpg_missing")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("gpg was started without pipes")
    return pipe


def _said(stderr: bytes, home: str) -> str:
    """Return gpg's last line, without its name and without a path of ours."""
    text = stderr.decode(errors="replace").replace(f"{home}/", "")
    lines = [line.removeprefix("gpg: ") for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
