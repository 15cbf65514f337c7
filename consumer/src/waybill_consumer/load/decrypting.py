"""Makes encrypted files readable for the length of a load, with gpg and the secret key that it holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waybill_consumer.errors import Damaged, Refused
from waybill_consumer.folder.files import hashed
from waybill_consumer.manifest import ENCRYPTED, File, Manifest

_LEAST_SECONDS, _LEAST_RATE = 60.0, 1 << 20
"""gpg decrypts some hundred megabytes a second. If it takes longer than this, it waits for a passphrase, an agent or a card."""


class Plain:
    """Decrypted files in a folder of their own. If `gpg` is off, a file that needs it is refused. `seconds` is the limit for a
    small file.
    """

    def __init__(self, folder: Path, *, gpg: bool, seconds: float = _LEAST_SECONDS) -> None:
        self._folder = folder
        self._gpg = gpg
        self._seconds = seconds

    def file(self, path: Path, file: File, manifest: Manifest) -> tuple[Path, File]:
        """Return the checked content of an encrypted file, and what its manifest says of it. Raises Refused, Damaged."""
        if not self._gpg:
            what = f"is encrypted to the key {manifest.encryption}, so its rows cannot be read"
            raise Refused(what, where=str(path), next_step="Load with --gpg where gpg holds the secret key")
        plain = self._folder / f"{file.sha256[:16]}-{path.name.removesuffix(ENCRYPTED)}"
        if not plain.exists():
            _decrypt(path, plain, manifest, self._seconds)
        digest, size = hashed(plain)
        sha256 = digest.hexdigest()
        if file.plain_bytes is not None and (size, sha256) != (file.plain_bytes, file.plain_sha256):
            raise Damaged("decrypts to something else than its manifest says", where=str(path))
        return plain, file._replace(path=plain.name, bytes=size, sha256=sha256)


@contextmanager
def decrypting(*, gpg: bool) -> Iterator[Plain]:
    """Decrypted files are removed when the block ends. Only this account may read their folder."""
    with tempfile.TemporaryDirectory(prefix="waybill-plain-") as folder:
        yield Plain(Path(folder), gpg=gpg)


def _decrypt(path: Path, plain: Path, manifest: Manifest, least: float) -> None:
    import subprocess  # costs as much as half of this package, and only who decrypts needs it

    if not path.exists():
        raise Damaged("is listed in its manifest and missing", where=str(path))
    part = plain.with_name(f"{plain.name}.part")
    command = ["gpg", "--batch", "--no-tty", "--quiet", "--yes", "--output", str(part), "--decrypt", str(path)]
    seconds = least + path.stat().st_size / _LEAST_RATE
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        step = "See that the key needs no passphrase, or that gpg-agent holds it: `gpg --decrypt` must work without a question"
        raise Refused(f"gpg did not decrypt it within {seconds:.0f} seconds", where=str(path), next_step=step) from None
    except FileNotFoundError:
        raise Refused("there is no program gpg", where=str(path), next_step="Install GnuPG, and import the secret key") from None
    if done.returncode:
        lines = [line.removeprefix("gpg: ") for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        gpg_says = lines[-1] if lines else "it said nothing"
        step = f"Import the secret key {manifest.encryption} into gpg; if it is there, pull again"
        raise Refused(f"gpg does not decrypt it: {gpg_says}", where=str(path), next_step=step)
    part.replace(plain)
