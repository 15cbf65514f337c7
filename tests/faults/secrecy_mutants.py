"""Known-bad variants of signing and encryption, and the attacks that must catch them."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.faults import scenes
from tests.faults.mutants import Mutant
from tests.faults.oracle import Watcher
from tests.faults.processes import REPOSITORY, Launcher
from tests.faults.scenes import UNTIL
from tests.installations import make_place


def seen_between_signature_and_manifest(launcher: Launcher, folder: Path) -> list[str]:
    """A reader looks just before a signature becomes visible, and the run dies there."""
    scene = scenes.signed(folder / "signed")
    with Watcher(scene.out, scene.signers) as watcher:
        run = launcher.start(scene.root, *scene.argv, env=scene.settle(scene.root), hold=r"^linkat user.*\.sig")
        run.held()
        watcher.look()
        run.signal(signal.SIGKILL)
        run.wait()
    return watcher.violations


def taken_back_unsigned(launcher: Launcher, folder: Path) -> list[str]:
    """The ledger is lost, and somebody put manifests of their own in place of the signed ones."""
    scene = scenes.signed(folder / "signed")
    for path in scene.out.rglob("*.sig"):
        path.unlink()
    for path in (scene.root / ".waybill").glob("ledger*"):
        path.unlink()
    done = launcher.run(scene.root, "reconcile", "acme", env=scene.settle(scene.root))
    return ["an unsigned manifest was imported"] if "imported /" in done.said else []


def read_by_anybody(launcher: Launcher, folder: Path) -> list[str]:
    """The tenant asked for encryption: its rows stand nowhere in the clear."""
    place = make_place(folder)
    key = (REPOSITORY / "tests/web/consumer.asc").read_text()
    place.tenant(entityList=["user"], encryption={"kind": "pgp", "public_key": key})
    scenes.Story(place).first_day()
    done = launcher.run(folder, "run", "acme", "--until", UNTIL)
    kept = [*(folder / "out").rglob("*"), *(folder / ".waybill").rglob("*")]
    clear = [path.name for path in kept if path.is_file() and "Löwen".encode() in path.read_bytes()]
    return [f"{name} is readable" for name in clear] + ([done.said] if done.status else [])


SECRECY_MUTANTS = [
    Mutant(
        "manifest before its signature",
        "deliveries/protocol.py",
        """            tenant = self.job.delivery.tenant
            publish_signature(self.resources.ledger, session, tenant, self.target.manifest, text, self.token, data)
""",
        """            tenant = self.job.delivery.tenant
            publish_document(session, self.target.manifest, manifest, self.token, data)
            publish_signature(self.resources.ledger, session, tenant, self.target.manifest, text, self.token, data)
""",
        seen_between_signature_and_manifest,
    ),
    Mutant(
        "unsigned manifests are imported",
        "deliveries/recovery/reconciling.py",
        "if not self._unsigned:",
        "if False:",
        taken_back_unsigned,
    ),
    Mutant(
        "files under an encrypted name, and not encrypted",
        "deliveries/extraction/encrypting.py",
        "yield Sinks(lambda number: encryption.sink(number, new_file(number)), encryption)",
        "yield Sinks(new_file)",
        read_by_anybody,
    ),
]
