"""The crash sweep: kill `waybill run` before each of its changing system calls, run it again, and let the oracle judge."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from tests.faults.oracle import Watcher, age, hidden, judge
from tests.faults.processes import Launcher
from tests.faults.scenes import Scene

PARALLEL = 2
Point = tuple[int, ...]
"""Kill before these calls: one number for each run that is killed, in order."""


@dataclass
class Swept:
    """`past_the_end` are points a run ended before, because threads made fewer calls this time."""

    name: str
    tried: int = 0
    past_the_end: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.kinds.items()))
        return f"{self.name}: {self.tried} points tried ({kinds}), {self.past_the_end} past the end, {len(self.violations)} violations"


def sweep(launcher: Launcher, scene: Scene, folder: Path, *, some: int | None = None, twice: bool = False, seed: int = 0) -> Swept:
    """Try every point of the scene, or `some` of different kinds spread over the run. `twice` kills the repeating run, too."""
    folder.mkdir(parents=True)
    calls = _trace(launcher, scene, folder / "reference")
    chance = random.Random(seed)
    points: list[Point] = [(number,) for number in range(1, len(calls) + 1)]
    if some is not None:
        points = [(number,) for number in _spread(calls, some, chance)]
    if twice:
        points = [(first, chance.randint(1, len(calls))) for (first,) in points]
    swept = Swept(scene.root.name)
    with ThreadPoolExecutor(PARALLEL) as pool:
        for point, killed, wrong in pool.map(lambda point: _try(launcher, scene, folder / "-".join(map(str, point)), point), points):
            swept.tried += 1
            swept.past_the_end += not killed
            swept.kinds[calls[point[0] - 1].split()[0]] += 1
            swept.violations += [f"{scene.root.name}, killed before {_name(point, calls)}: {problem}" for problem in wrong]
    return swept


def _spread(calls: Sequence[str], some: int, chance: random.Random) -> list[int]:
    """Numbers of `some` calls: one from each stretch of equal calls, stretches drawn evenly over the run."""
    stretches = [[number for number, _ in stretch] for _, stretch in groupby(enumerate(calls, 1), key=lambda item: item[1])]
    width = max(1.0, len(stretches) / some)
    return [chance.choice(stretches[int(width * (item + chance.random())) % len(stretches)]) for item in range(min(some, len(stretches)))]


def _name(point: Point, calls: Sequence[str]) -> str:
    return " and ".join(f"call {number} ({calls[number - 1]})" for number in point)


def copied(scene: Scene, root: Path) -> tuple[Scene, dict[str, str]]:
    """The scene in a folder of its own, and the environment to run it in."""
    shutil.copytree(scene.root, root, symlinks=True)
    return replace(scene, root=root), dict(scene.settle(root))


def _trace(launcher: Launcher, scene: Scene, root: Path) -> list[str]:
    copy, env = copied(scene, root)
    done = launcher.run(root, *copy.argv, env=env, trace=True)
    wrong = judge(copy.out, dict(copy.versions), held=copy.held)
    if done.status != 0 or wrong:
        raise RuntimeError(f"the undisturbed run fails already: {done.said} {wrong}")
    return done.calls


def _try(launcher: Launcher, scene: Scene, root: Path, point: Point) -> tuple[Point, bool, list[str]]:
    """One point. Returns it, whether the first run was really killed, and what is wrong."""
    copy, env = copied(scene, root)
    with Watcher(copy.out, copy.signers) as watcher:
        killed = [launcher.run(root, *copy.argv, env=env, kill_at=number).status == -9 for number in point]
        watcher.look()
        last = launcher.run(root, *copy.argv, env=env)
    wrong = watcher.violations + judge(copy.out, dict(copy.versions), held=copy.held)
    if last.status != 0:
        wrong.append(f"the run after the crash ended with {last.status}: {last.said}")
    wrong += housekept(launcher, copy, env)
    if not wrong:
        shutil.rmtree(root)
    return point, killed[0], wrong


def housekept(launcher: Launcher, scene: Scene, env: dict[str, str]) -> list[str]:
    """(e): what is hidden still after housekeeping, two days later."""
    age(scene.out)
    done = launcher.run(scene.root, "housekeeping", env=env)
    wrong = [f"{path.relative_to(scene.out)} is left after housekeeping" for path in hidden(scene.out)]
    return wrong + ([f"housekeeping ended with {done.status}: {done.said}"] if done.status else [])
