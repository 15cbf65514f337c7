"""Several workers on one stream, and workers that come back from the dead: one delivery, one truth."""

import json
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.faults import scenes
from tests.faults.oracle import Watcher, judge, visible
from tests.faults.scenes import MIDNIGHT, NEXT, UNTIL, Story
from tests.faults.sweep import copied
from tests.installations import DAY, make_place
from waybill.deliveries import protocol, running
from waybill.deliveries.planning import plan
from waybill.destinations import Session
from waybill.destinations.base import Stored
from waybill.errors import TransientError
from waybill.registrations.applying import apply

STEPS = [
    r"^openat .*spool/.*user",
    r"^write .*spool/.*user",
    r"^openat \.user\.csv",
    r"^fsync .*\.user\.csv",
    r"^linkat user\.csv",
    r"^unlinkat \.user\.csv",
    r"^openat \.user\.manifest",
    r"^linkat user\.manifest",
    r"^unlinkat \.user\.manifest",
    r"^rename .*archive",
    r"^linkat _MANIFEST",
]


@pytest.fixture(scope="module")
def delta(tmp_path_factory):
    return scenes.delta(tmp_path_factory.mktemp("scene") / "delta")


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_slept_while_another_finished_wakes_up_to_the_same_result(launcher, delta, tmp_path, step):
    scene, env = copied(delta, tmp_path / "copy")
    with Watcher(scene.out) as watcher:
        sleeper = launcher.start(scene.root, *scene.argv, env=env, hold=step)
        sleeper.held()
        other = launcher.run(scene.root, *scene.argv, env=env)
        sleeper.go()
        woken = sleeper.wait()
    assert (other.status, woken.status) == (0, 0), other.said + woken.said
    assert watcher.violations + judge(scene.out, dict(scene.versions)) == []


AFTER_THE_RENAME = [r"^unlinkat \.user\.csv", r"^openat \.user\.manifest", r"^unlinkat \.user\.manifest", r"^rename .*archive"]


@pytest.mark.parametrize("step", AFTER_THE_RENAME)
def test_what_a_killed_worker_published_can_be_sent_again_before_housekeeping_has_kept_it(launcher, delta, tmp_path, step):
    scene, env = copied(delta, tmp_path / "copy")
    worker = launcher.start(scene.root, *scene.argv, env=env, hold=step)
    worker.held()
    worker.signal(signal.SIGKILL)
    worker.wait()
    assert launcher.run(scene.root, *scene.argv, env=env).status == 0
    day = scene.out / "exports/acme/2026/06/01"
    (path,) = day.rglob("user.manifest.json")
    lost = {name: name.read_bytes() for name in visible(day)}
    for name in lost:
        name.unlink()
    sent = launcher.run(scene.root, "redeliver", json.loads(lost[path])["delivery_id"], env=env)
    assert sent.status == 0, sent.said
    assert (day / "user/user.g1.2.r1.csv").read_bytes() == lost[day / "user/user.csv"]


@pytest.mark.parametrize("step", [r"^openat \.user\.csv", r"^unlinkat \.user\.csv"])
def test_a_sleeper_sends_nothing_again_that_the_consumer_has_collected_meanwhile(launcher, delta, tmp_path, step):
    scene, env = copied(delta, tmp_path / "copy")
    sleeper = launcher.start(scene.root, *scene.argv, env=env, hold=step)
    sleeper.held()
    assert launcher.run(scene.root, *scene.argv, env=env).status == 0
    day = scene.out / "exports/acme/2026/06/01"
    for path in visible(day):
        path.unlink()
    sleeper.go()
    woken = sleeper.wait()
    assert woken.status == 0, woken.said
    assert visible(day) == []
    assert "collected" in woken.out


def test_a_sleeper_that_wakes_inside_its_rename_shows_no_manifest_again(launcher, delta, tmp_path):
    """Nothing can be asked between the last look at the ledger and the rename itself: the data may come back, but it is not delivered."""
    scene, env = copied(delta, tmp_path / "copy")
    sleeper = launcher.start(scene.root, *scene.argv, env=env, hold=r"^linkat user\.csv")
    sleeper.held()
    assert launcher.run(scene.root, *scene.argv, env=env).status == 0
    day = scene.out / "exports/acme/2026/06/01"
    for path in visible(day):
        path.unlink()
    sleeper.go()
    assert sleeper.wait().status == 0
    assert [path.name for path in visible(day)] in ([], ["user.csv"])


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_three_runs_at_once_give_one_delivery(launcher, tmp_path, request, kind):
    url = request.getfixturevalue("postgres").url if kind == "postgres" else ""
    place = make_place(tmp_path, ledger_url=url)
    story = Story(place)
    story.first_day()
    env = {"WAYBILL_LEDGER_URL": url} if url else {}
    if url:
        assert launcher.run(tmp_path, "ledger", "upgrade", env=env).status == 0
    with Watcher(place.out) as watcher:
        runs = [launcher.start(tmp_path, "run", "acme", "--until", UNTIL, env=env) for _ in range(3)]
        ended = [run.wait() for run in runs]
    assert [item.status for item in ended] == [0, 0, 0], "".join(worker.said for worker in ended)
    assert watcher.violations + judge(place.out, story.versions) == []


def test_runs_that_read_different_snapshots_still_deliver_one_of_them(launcher, tmp_path):
    """Between the first extraction and the second a late row is committed: whichever bytes win, its version arrives once."""
    place = make_place(tmp_path)
    story = Story(place)
    story.first_day()
    sleeper = launcher.start(tmp_path, "run", "acme", "--until", UNTIL, hold=r"^linkat user\.csv")
    sleeper.held()
    story.write(30, "late", MIDNIGHT.replace(hour=0) - scenes.DAY)
    assert launcher.run(tmp_path, "run", "acme", "--until", UNTIL).status == 0
    sleeper.go()
    assert sleeper.wait().status == 0
    story.versions["theme"] *= 2
    assert launcher.run(tmp_path, "run", "acme", "--until", NEXT).status == 0
    assert judge(place.out, story.versions) == []


@dataclass
class Server:
    """A destination at which something happens after the first look at a file, and whose manifests may be refused."""

    inner: Session
    after_look: Callable[[], None] = field(default=lambda: None)
    refuses_manifests: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def sha256(self, path: str) -> str | None:
        seen = self.inner.sha256(path)
        happening, self.after_look = self.after_look, lambda: None
        happening()
        return seen

    def upload(self, path: str, blocks: Iterable[bytes]) -> Stored:
        if self.refuses_manifests and ".manifest" in path:
            raise TransientError("the server went away")
        return self.inner.upload(path, blocks)


def test_a_worker_that_looked_just_before_another_published_takes_over_what_that_one_left(tmp_path):
    """The data is not there at the look, but adopted at the next question to the ledger: it was published between the two."""
    place = make_place(tmp_path)
    place.user(1, "Ada", MIDNIGHT - 40 * DAY)
    installation = place.installation()
    apply(installation, actor="test")
    (delivery,) = plan(installation, "acme", MIDNIGHT, entities=["user"])
    job = running.job_of(installation, delivery)
    with installation.session(installation.registered("acme")) as session:
        resources = protocol.Resources(
            installation.ledger, installation.source(job.entity.source), session, tmp_path / "spool", None, installation.now
        )

        def other() -> None:
            with pytest.raises(TransientError, match="went away"):
                protocol.deliver_one(job, replace(resources, session=Server(session, refuses_manifests=True)))

        outcome = protocol.deliver_one(job, replace(resources, session=Server(session, after_look=other)))
    assert (outcome.status, outcome.rows) == ("committed", 1)
    [(_, manifest)] = place.manifests()
    assert not manifest["possible_duplicate"]  # the other's attempt, not a second one that may repeat it
    place.close()
