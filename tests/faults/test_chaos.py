"""Three workers on the same streams, killed, stopped and continued at random, while twelve writers change the source."""

import random
import signal
import threading
from datetime import date

import pytest

from tests.faults import FULL, SEED
from tests.faults.live import DAY, HISTORY, Writers, environment, miscounted, prepare, uncopied, unlike
from tests.faults.oracle import age, hidden, judge, watched
from tests.servers.postgres import serve_postgres

FIRST = date(2026, 3, 1)
MODES = {
    "by_snapshot": {"mode": "snapshot", "column": "waybill_xid"},
    "by_lookback": {"mode": "lookback", "column": "updated_at", "lookback": "3d"},
}


class Worker(threading.Thread):
    """Starts one run after the other; something may happen to each of them."""

    def __init__(self, launcher, place, env, writers, seed):
        super().__init__(name=f"worker {seed}")
        self.launcher, self.place, self.env, self.writers = launcher, place, env, writers
        self.dice = random.Random(seed)
        self.stop = threading.Event()
        self.fates = {"kill": 0, "stop": 0, "none": 0}
        self.tracebacks = []

    def run(self):
        while not self.stop.is_set():
            until = f"{self.writers.day:%Y-%m-%d}T00:00:00Z"
            run = self.launcher.start(self.place.root, "run", "acme", "--until", until, env=self.env)
            fate = self.dice.choice(["kill", "stop", "none"])
            self.fates[fate] += 1
            if fate != "none":
                self.stop.wait(self.dice.random() * 0.8)
                run.signal(signal.SIGKILL if fate == "kill" else signal.SIGSTOP)
            if fate == "stop":
                self.stop.wait(self.dice.random() * 1.5)
                run.signal(signal.SIGCONT)
            done = run.wait(300)
            self.tracebacks += [done.err] if "Traceback" in done.err else []


@pytest.fixture
def recorded():
    """A database that knows when each transaction was committed."""
    with serve_postgres(extra_config="track_commit_timestamp = on") as cluster, cluster.database() as database:
        yield database


@pytest.mark.parametrize("seed", range(SEED, SEED + (5 if FULL else 1)))
def test_killed_stopped_and_racing_workers_lose_and_repeat_nothing(launcher, tmp_path, recorded, seed):
    place = prepare(tmp_path, recorded, "compare", **MODES)
    recorded.psql(HISTORY)
    env = environment(recorded)
    writers = Writers(recorded, FIRST, seed, deletes=0.1)
    workers = [Worker(launcher, place, env, writers, 10 * seed + number) for number in range(3)]
    with watched(place.out) as seen:
        with writers.writing():
            for worker in workers:
                worker.start()
            for _ in range(30 if FULL else 6):
                workers[0].stop.wait(1.2)
                writers.day += DAY
            for worker in workers:
                worker.stop.set()
            for worker in workers:
                worker.join()
        last = writers.day + 3 * DAY
        done = launcher.run(place.root, "run", "acme", "--until", f"{last:%Y-%m-%d}T00:00:00Z", env=env)
    fates = {fate: sum(worker.fates[fate] for worker in workers) for fate in workers[0].fates}
    wrong = seen + judge(place.out) + miscounted(place.out, recorded) + uncopied(place.out, recorded)
    wrong += unlike(place.out, recorded)
    age(place.out)
    launcher.run(place.root, "housekeeping", env=env)
    wrong += [f"{path} is left after housekeeping" for path in hidden(place.out)]
    print(f"chaos {seed}: {fates} over {(writers.day - FIRST).days} days, {len(wrong)} violations")
    assert done.status == 0, done.said
    assert wrong == []
    assert [text for worker in workers for text in worker.tracebacks] == []
