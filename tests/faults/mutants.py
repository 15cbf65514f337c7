"""Known-bad variants of the product, each a small exact change of a source file, and the cheapest attack that must catch it.

An attack is a function of a launcher and an empty folder that returns what is wrong: nothing for the product, something for its mutant.
"""

from __future__ import annotations

import atexit
import compileall
import functools
import importlib.util
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults import scenes
from tests.faults.odd_servers import FlipsABit, LosesWhatItCouldNotClose, LosesWhatItRenamed, served
from tests.faults.oracle import Watcher, judge
from tests.faults.processes import REPOSITORY, Launcher
from tests.faults.scenes import Scene, Story
from tests.faults.sweep import copied
from tests.installations import make_place
from waybill_demo.sftp_server import TenantFolder

Attack = Callable[[Launcher, Path], list[str]]


def undisturbed(launcher: Launcher, folder: Path) -> list[str]:
    """Nothing happens but what the story holds anyway: late commits, line ends in values, another tenant's rows."""
    scene = scenes.delta(folder / "delta")
    done = launcher.run(scene.root, *scene.argv)
    return judge(scene.out, dict(scene.versions)) + ([done.said] if done.status else [])


def beyond(launcher: Launcher, folder: Path) -> list[str]:
    """Rows that no window holds, or none yet: the full load holds them, the next delta what changed since, the one after it nothing."""
    place = make_place(folder)
    place.tenant(entityList=["user"])
    story = Story(place)
    story.first_day()
    story.beyond()
    done = [launcher.run(folder, "run", "acme", "--until", scenes.UNTIL)]
    wrong = judge(place.out, {"user": list(story.versions["user"])})
    story.beyond_changed()
    done += [launcher.run(folder, "run", "acme", "--until", until) for until in (scenes.NEXT, scenes.AFTER)]
    return wrong + judge(place.out, {"user": story.versions["user"]}) + [result.said for result in done if result.status]


def first_day(launcher: Launcher, folder: Path) -> list[str]:
    scene = scenes.first(folder / "first")
    done = launcher.run(scene.root, *scene.argv)
    return judge(scene.out, dict(scene.versions)) + ([done.said] if done.status else [])


def killed_before(step: str) -> Attack:
    """The run is killed at a certain step, then started again."""

    def attack(launcher: Launcher, folder: Path) -> list[str]:
        scene = scenes.first(folder / "first")
        with Watcher(scene.out) as watcher:
            run = launcher.start(scene.root, *scene.argv, hold=step)
            run.held()
            watcher.look()
            run.signal(signal.SIGKILL)
            run.wait()
            done = launcher.run(scene.root, *scene.argv)
        return watcher.violations + judge(scene.out, dict(scene.versions)) + ([done.said] if done.status else [])

    return attack


def overtaken_by_a_stranger(launcher: Launcher, folder: Path) -> list[str]:
    """Somebody else's file appears under the final name after the run has looked there."""
    scene = scenes.first(folder / "first")
    run = launcher.start(scene.root, *scene.argv, hold=r"^fsync .*\.user\.csv")
    run.held()
    foreign = scene.out / "exports/acme/2026/05/31/user/user.csv"
    foreign.write_text("theirs\n")
    run.go()
    run.wait()
    return [] if foreign.read_text() == "theirs\n" else ["a foreign file was overwritten"]


def sent_to(view: type[TenantFolder]) -> Attack:
    """The files go to a server that damages them; afterwards to one that does not."""

    def attack(launcher: Launcher, folder: Path) -> list[str]:
        scene = scenes.first(folder / "first")
        with served(scene, folder / "server", view) as there:
            copy, env = copied(there, folder / "copy")
            with Watcher(copy.out) as watcher:
                launcher.run(copy.root, *copy.argv, env=env)
        with served(scene, folder / "server") as there:
            done = launcher.run(copy.root, *copy.argv, env=dict(there.settle(copy.root)))
        return watcher.violations + _judged(copy) + ([done.said] if done.status else [])

    return attack


def _judged(scene: Scene) -> list[str]:
    return judge(scene.out, dict(scene.versions))


@dataclass(frozen=True)
class Mutant:
    """`before` stands exactly once in `file` (below include/waybill) and becomes `after`."""

    name: str
    file: str
    before: str
    after: str
    attack: Attack

    def plant(self, folder: Path) -> Path:
        """A copy of the product with this change. Raises LookupError when the text is not there any more: the mutant must follow it."""
        product = folder / "include"
        shutil.copytree(compiled(), product)
        path = product / "waybill" / self.file
        text = path.read_text()
        if text.count(self.before) != 1:
            raise LookupError(f"{self.file} holds the text of the mutant {self.name!r} {text.count(self.before)} times, not once")
        path.write_text(text.replace(self.before, self.after))
        Path(importlib.util.cache_from_source(str(path))).unlink()
        return product


@functools.cache
def compiled() -> Path:
    """A copy of the product with the bytecode of every module: without it each process of each mutant would compile all it imports."""
    product = Path(tempfile.mkdtemp(prefix="waybill-compiled-")) / "include"
    atexit.register(shutil.rmtree, product.parent, ignore_errors=True)
    shutil.copytree(REPOSITORY / "include", product, ignore=shutil.ignore_patterns("__pycache__"))
    assert compileall.compile_dir(product, quiet=1), "the product does not compile"
    return product


MUTANTS = [
    Mutant(
        "write under the final name",
        "layout.py",
        'return f"{folder}/.{name}.{attempt}.part"',
        'return f"{folder}/{name}"',
        killed_before(r"^write .*out/.*user\.csv"),
    ),
    Mutant(
        "commit before publish",
        "deliveries/protocol.py",
        """        adopted = run.adopt_published() or run.publish(run.extract(read))
        run.publish_deletes(adopted)
        run.write_manifest(adopted)
        run.commit(adopted)
""",
        """        adopted = run.adopt_published() or run.extract(read)
        run.commit(adopted)
        run.publish(adopted)
        run.publish_deletes(adopted)
        run.write_manifest(adopted)
""",
        killed_before(r"^linkat user\.csv|^rename .*archive"),
    ),
    Mutant(
        "overwriting rename",
        "destinations/folder.py",
        "os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)",
        "os.replace(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)\n            return",
        overtaken_by_a_stranger,
    ),
    Mutant(
        "ignored CLOSE status",
        "destinations/sftp/transfer.py",
        """        await self._wire.done(closing)
        self._closed = True
""",
        """        with suppress(Status):
            await self._wire.done(closing)
        self._closed = True
""",
        sent_to(LosesWhatItCouldNotClose),
    ),
    Mutant(
        "size-only verification",
        "destinations/sftp/session.py",
        "if found != sent:",
        "if False:",
        sent_to(FlipsABit),
    ),
    Mutant(
        "what is gone after its rename was collected",
        "deliveries/publishing/renaming.py",
        "if session.profile is Profile.PICKUP or not (",
        "if session.profile is not Profile.DROPBOX or not (",
        sent_to(LosesWhatItRenamed),
    ),
    Mutant(
        "newline row count",
        "formats/csv.py",
        "file.rows, total = file.rows + count, total + count",
        'file.rows, total = file.rows + bytes(block).count(b"\\n"), total + count',
        first_day,
    ),
    Mutant(
        "naive watermark",
        "deliveries/extraction/row_versions.py",
        """    changed, entity = selection.changed, selection.entity
    if changed.start is None""",
        """    return selection, False
    changed, entity = selection.changed, selection.entity
    if changed.start is None""",
        undisturbed,
    ),
    Mutant(
        "a full load ends at its boundary",
        "deliveries/extraction/extracting.py",
        "return ChangeSpan() if extent.changed.start is None else extent.changed",
        "return extent.changed",
        beyond,
    ),
    Mutant(
        "what a full load held past its end is forgotten",
        "deliveries/extraction/row_versions.py",
        "digests.keep(snapshot.digests(replace(selection, changed=ChangeSpan(end, ahead=ahead))))",
        "pass",
        beyond,
    ),
    Mutant(
        "positions ahead of the clock are passed over",
        "deliveries/extraction/row_versions.py",
        "return snapshot.taken_at if snapshot.count(apart) else None",
        "return None",
        beyond,
    ),
    Mutant(
        "positions ahead of the clock are sent with every delta",
        "deliveries/extraction/row_versions.py",
        "digests.keep(snapshot.digests(replace(selection, changed=ChangeSpan(ahead=ahead))))",
        "pass",
        beyond,
    ),
    Mutant(
        "what a full load held past the end of the delta after it is forgotten",
        "deliveries/extraction/row_versions.py",
        "digests.keep([digest for digest in batch if digest in delivered] for batch in snapshot.digests(between))",
        "pass",
        beyond,
    ),
    Mutant(
        "a deletion time counts before it is past",
        "sources/query.py",
        "return either((none, self.reaches(name, self.clock))) if self.clock else none",
        "return none",
        beyond,
    ),
    Mutant(
        "missing tenant predicate",
        "sources/query.py",
        "(self.tenant(), *self._scope())",
        "(*self._scope(),)",
        first_day,
    ),
]
