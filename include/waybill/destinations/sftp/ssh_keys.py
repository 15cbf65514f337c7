"""Reads the keys of a connection: which hosts it trusts, and what it logs in with. `login` compares them with the server's.

There may be several of both, so that a key can be changed while both sides always know each other. The new key is added, the other side
follows, and the old key is removed.
"""

from __future__ import annotations

import codecs
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncssh

from waybill.connection import Connection
from waybill.errors import PermanentError

MOST_KEYS = 4
"""Servers count every key they are offered as an attempt, and OpenSSH ends a login after six."""

LEAST_BITS = 2048
"""RSA keys with fewer bits are refused as weak, and DSA keys always are. Today's servers accept neither."""

_HOSTS = re.compile(r"^(\s*(?:@\S+\s+)?)([^|@\s]\S*)", re.MULTILINE)
"""The hosts of a line of known_hosts, unless they are hashed. OpenSSH hashes small letters, and compares without regard to case."""

_BLOCK = re.compile(r"-----BEGIN [^-]+-----.*?-----END [^-]+-----", re.DOTALL)


def unusable(label: str, what: str, next_step: str) -> PermanentError:
    return PermanentError(what, where=label, next_step=next_step, code="connection")


def spoken(key: asyncssh.SSHKey) -> str:
    """Return a key in the form that people compare: `ssh-ed25519 SHA256:...`."""
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


def public_keys(connection: Connection) -> list[dict[str, str]]:
    """Return what the owner of a server needs of each key that the connection logs in with. No connection is made, and no pin is needed
    yet.

    Raises PermanentError if a key cannot be used, or if there is none.
    """
    label = f"sftp {connection.id}"
    keys = private_keys(label, connection)
    if not keys:
        how = "a password" if connection.password else "neither a password nor a key"
        step = "Put a key into its extra as private_keys: make one with `ssh-keygen -t ed25519`"
        what = f"the connection logs in with {how}, so there is no public key to hand over"
        raise PermanentError(what, where=label, next_step=step, code="no_key")
    return [{"public_key": key.export_public_key("openssh").decode().strip(), "fingerprint": key.get_fingerprint()} for key in keys]


def host_keys(label: str, host: str, port: int, extra: Mapping[str, Any]) -> tuple[asyncssh.SSHKey, ...]:
    """Return the host keys to accept: `host_key` (a list, or one or more lines), else what `known_hosts` (a file) says of this host."""
    scan = f"ssh-keyscan -p {port} {shlex.quote(host)}"
    how = f"Run `{scan}`, compare the keys with what the server's owner says, and put one in extra as host_key"
    if str(extra.get("no_host_key_check", "")).lower() == "true":
        raise unusable(label, "no_host_key_check is set, but Waybill talks only to a pinned host", f"Take it out. {how}")
    given, file = extra.get("host_key"), extra.get("known_hosts")
    text = "\n".join(map(str, given)) if isinstance(given, list) else str(given or "")
    if lines := [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]:
        return tuple(_host_key(label, line, how) for line in lines)
    if file and str(file).lower() != "none":
        try:
            lines_of_file = Path(str(file)).expanduser().read_text("utf-8-sig", errors="replace")  # a comment may be in any encoding
            lowered = _HOSTS.sub(_lowered, lines_of_file).encode()
            known, authorities, revoked, *_ = asyncssh.match_known_hosts(lowered, host.lower(), "", port)
        except (OSError, RuntimeError) as error:
            raise unusable(label, f"the known_hosts file {file} cannot be read: {_unread(error)}", how) from error
        except ValueError as error:
            raise unusable(label, f"the known_hosts file {file} has a line that does not name a host and its key", how) from error
        trusted = [key for key in known if key not in revoked]
        if found := tuple(key for key in trusted if not _why_weak(key)):
            return found
        what = f"has revoked every key it names of {host}" if known else f"does not name {host}"
        if trusted:
            what = f"names only weak keys of {host}: {_why_weak(trusted[0])}"
        if authorities and not known:
            what = f"names only a certificate authority for {host} (@cert-authority), and certificates of hosts are not read"
        raise unusable(label, f"the known_hosts file {file} {what}", how)
    raise unusable(label, "the connection pins no host key", how)


def _lowered(found: re.Match[str]) -> str:
    return found[1] + found[2].lower()


def _host_key(label: str, line: str, how: str) -> asyncssh.SSHKey:
    """Read `ssh-ed25519 AAAA...`, with or without a host in front, or the bare base64 of an RSA key as the provider accepts it."""
    words = line.split()
    if words[0].startswith("@"):
        what = {"@cert-authority": "a certificate authority, and certificates of hosts are not read", "@revoked": "a revoked key"}
        raise unusable(label, f"host_key in extra names {what.get(words[0], f'{words[0]}, which is no key')}", how)
    start = next((number for number, word in enumerate(words) if word.startswith(("ssh-", "ecdsa-"))), None)
    text = f"ssh-rsa {words[0]}" if start is None else " ".join(words[start : start + 2])
    try:
        key = asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise unusable(label, "host_key in extra is not a public key such as `ssh-ed25519 AAAA...`", how) from error
    if why := _why_weak(key):
        raise unusable(label, f"host_key in extra is weak: {why}", f"Pin another key of the server, or ask its owner for one. {how}")
    return key


def _why_weak(key: asyncssh.SSHKey) -> str:
    """Return what is wrong with a key that is broken or nearly so, or nothing."""
    kind, bits = key.get_algorithm(), getattr(key.pyca_key, "key_size", 0)
    if kind == "ssh-dss":
        return "it is a DSA key"
    return f"RSA of {bits} bits, and {LEAST_BITS} is the least" if kind == "ssh-rsa" and bits < LEAST_BITS else ""


def private_keys(label: str, connection: Connection) -> tuple[asyncssh.SSHKey, ...]:
    """Return the keys to log in with, in the order they are tried: `private_keys` (the new one first), then `private_key` or `key_file`.

    `private_keys` is a list. Each member is a key's text, or an object with `private_key` or `key_file` and the key's own
    `private_key_passphrase`. A text with several keys one after the other works as well, because `AIRFLOW_CONN_...` may hold it that way.
    """
    extra = connection.extra
    passphrase = extra.get("private_key_passphrase") or extra.get("passphrase") or connection.password or None
    found: list[asyncssh.SSHKey] = []
    for where, given in _given(label, extra):
        own = given.get("private_key_passphrase") or given.get("passphrase") or passphrase
        key = _private_key(label, where, given, own)
        if key is not None and key.get_algorithm().startswith("sk-"):
            step = (
                "Make a key with `ssh-keygen -t ed25519`, give its public half to the server's owner, and put it in the place of this one"
            )
            raise unusable(label, f"the private key in {where} is on a security key (FIDO), which somebody has to touch", step)
        if key is not None and (why := _why_weak(key)):
            step = "Make one with `ssh-keygen -t ed25519`, give its public half to the server's owner, and put it in the place of this one"
            raise unusable(label, f"the private key in {where} is weak: {why}", step)
        if key is not None and key.public_data not in {other.public_data for other in found}:
            found.append(key)
    if len(found) > MOST_KEYS:
        raise unusable(
            label, f"the connection holds {len(found)} private keys", f"Keep {MOST_KEYS} at most: servers end a login after a few"
        )
    return tuple(found)


def _given(label: str, extra: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield where in extra each key is, and what is said of it."""
    several = extra.get("private_keys") or []
    if isinstance(several, str):
        several = _BLOCK.findall(several) or [several]
    if not isinstance(several, list):
        raise unusable(label, "private_keys in extra is not a list", "Write the keys as a JSON list, the new one first")
    for number, given in enumerate(several, 1):
        if not isinstance(given, str | dict):
            raise unusable(
                label, f"number {number} of private_keys in extra is no key", "Write each key as text, or as an object with key_file"
            )
        yield f"number {number} of private_keys", {"private_key": given} if isinstance(given, str) else given
    yield "private_key", extra


def _no_key(label: str, place: str, text: str, error: Exception, passphrase: str | None) -> PermanentError:
    """Return the error for a private key that cannot be used, by how it begins and what the parser missed."""
    begin = text.strip("\ufeff \t\r\n")
    if begin.startswith("PuTTY-User-Key-File"):
        step = "Convert it with `puttygen key.ppk -O private-openssh -o key`, or in PuTTYgen: Conversions, Export OpenSSH key"
        return unusable(label, f"the private key in {place} is in PuTTY's format", step)
    if begin.startswith(("ssh-", "ecdsa-", "sk-", "---- BEGIN SSH2 PUBLIC", "-----BEGIN PUBLIC", "-----BEGIN RSA PUBLIC")):
        return unusable(label, f"what stands in {place} is a public key", "Put the private key there: the file without .pub")
    if begin.startswith("---- BEGIN SSH2 "):
        step = "Take its passphrase off there and convert it with `ssh-keygen -i -f key`, or make a new one with `ssh-keygen -t ed25519`"
        return unusable(label, f"the private key in {place} is in the format of SSH Tectia", step)
    if begin.startswith("-----BEGIN CERTIFICATE"):
        return unusable(label, f"what stands in {place} is a certificate", "Put the private key there that it belongs to")
    if begin.startswith(("/", "~", "./")) and "\n" not in begin:
        return unusable(label, f"what stands in {place} is the name of a file", "Put it into key_file, or the key itself into private_key")
    if isinstance(error, asyncssh.KeyEncryptionError) and passphrase:
        step = "Correct private_key_passphrase in extra, or the connection's password where that is missing"
        return unusable(label, f"the passphrase does not open the private key in {place}", step)
    if "passphrase" in str(error).lower():
        step = "Set private_key_passphrase in extra, or take the passphrase off with `ssh-keygen -p`"
        return unusable(label, f"the private key in {place} is encrypted, and the connection has no passphrase for it", step)
    return unusable(label, f"the private key in {place} cannot be used", "It must be a whole PEM or OpenSSH key, with its line breaks")


def _private_key(label: str, where: str, given: Mapping[str, Any], passphrase: str | None) -> asyncssh.SSHKey | None:
    text, file = given.get("private_key"), given.get("key_file")
    try:
        if text:
            # A file of the environment keeps line breaks as they are spelt, and Windows begins a text with a byte order mark.
            lines = str(text).strip("\ufeff \t\r\n").replace("\\r\\n", "\n").replace("\\n", "\n")
            return asyncssh.import_private_key(lines + "\n", passphrase)
        if file:
            return asyncssh.import_private_key(Path(str(file)).expanduser().read_bytes().removeprefix(codecs.BOM_UTF8), passphrase)
    except (OSError, RuntimeError) as error:
        raise unusable(label, f"the key file {file} cannot be read: {_unread(error)}", "Correct key_file in extra") from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        # The cause is not chained, because what a parser says of a key may quote the key.
        place = where if text else f"the file {file}"
        content = str(text) if text else Path(str(file)).expanduser().read_text(errors="replace")
        raise _no_key(label, place, content, error, passphrase) from None
    return None


def _unread(error: Exception) -> str:
    """Return why a file cannot be read. A RuntimeError says that the `NAME` of `~NAME/file` is nobody's."""
    return getattr(error, "strerror", "") or "nobody of that name has a home here"
