"""Known-bad variants of what deliveries, manifests and exports promise beyond their rows, and the attacks that must catch them."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.copies import Copy
from tests.exports import MEASUREMENT, make_office
from tests.faults import scenes
from tests.faults.mutants import Attack, Mutant, sent_to
from tests.faults.odd_servers import SaysItRenamed
from tests.faults.oracle import visible
from tests.faults.processes import Finished, Launcher
from tests.faults.row_mutants import below, exported, hidden, restored, rows_exported
from tests.installations import DAY, USER, Place, catalog, make_place

MIDNIGHT = scenes.MIDNIGHT
WRITTEN = MIDNIGHT - 2 * DAY


def unsaid(*runs: Finished) -> list[str]:
    """What runs said that had to end well and did not."""
    return [run.said for run in runs if run.status]


def newest(place: Place) -> dict[str, Any]:
    manifests = [manifest for _, manifest in place.manifests() if manifest["entity"] == "user"]
    return max(manifests, key=lambda manifest: (manifest["generation"], manifest["sequence"]))


def users(folder: Path, **entity: Any) -> Place:
    """An installation that delivers users, who have no deletion time where `entity` says how their changes are found."""
    place = make_place(folder)
    told = {name: value for name, value in USER.items() if name != "deleted_column" or "changes" not in entity}
    place.write("catalog.yaml", catalog(user={**told, **entity}))
    place.tenant(entityList=["user"])
    return place


def given_twice(launcher: Launcher, folder: Path) -> list[str]:
    """A second row has a key that was delivered with the first one, which has not changed since."""
    place = users(folder)
    place.user(1, "Ada", WRITTEN)
    done = launcher.run(folder, "run", "acme", "--until", scenes.UNTIL)
    place.sql(f"""insert into "user" values ('acme', 1, 'Eve', timestamptz '{MIDNIGHT + timedelta(hours=1)}', null)""")
    refused = launcher.run(folder, "run", "acme", "--until", scenes.NEXT)
    is_told = refused.status == 1 and "is not unique" in refused.said
    return unsaid(done) + ([] if is_told else [f"two rows of one key were delivered: {refused.said}"])


def given_out_again(launcher: Launcher, folder: Path) -> list[str]:
    """A table is emptied, counts from 1 again, and passes the last id that was delivered."""
    place = users(folder, changes={"mode": "append", "column": "id"})
    for number in (1, 2, 3):
        place.user(number, "before", WRITTEN)
    done = [launcher.run(folder, "run", "acme", "--until", scenes.UNTIL)]
    place.sql('delete from "user"')
    for number in (1, 2, 3, 4):
        place.user(number, "after", WRITTEN)
    done.append(launcher.run(folder, "run", "acme", "--until", scenes.NEXT))
    names = [row["name"] for row in Copy().catch_up(place.out / "exports/acme").rows.values()]
    return unsaid(*done) + ([] if names == ["after"] * 4 else [f"the copy holds {names}"])


def counted(launcher: Launcher, folder: Path) -> list[str]:
    """A consumer compares its copy with how many rows the tenant has at the source."""
    scene = scenes.delta(folder / "delta")
    done = launcher.run(scene.root, *scene.argv)
    there, told = len({row[0] for row in scene.versions["user"]}), newest(Place(scene.root))["source_rows"]
    return unsaid(done) + ([] if told == there else [f"the source holds {there} rows, and the manifest says {told}"])


def joined_by_a_column(fill: str) -> Attack:
    """A column joins the catalog after rows were delivered that do not change any more."""

    def attack(launcher: Launcher, folder: Path) -> list[str]:
        place = users(folder, columns={name: column for name, column in USER["columns"].items() if name != "name"})
        place.user(1, "Ada", WRITTEN)
        done = [launcher.run(folder, "run", "acme", "--until", scenes.UNTIL)]
        users_now = catalog(user={**USER, "fill": fill})
        place.write("catalog.yaml", users_now)
        done.append(launcher.run(folder, "run", "acme", "--until", scenes.NEXT))
        [row] = Copy().catch_up(place.out / "exports/acme").rows.values()
        is_known = row.get("name") == "Ada" or "name" in newest(place).get("note", "")
        is_filled = fill == "from_now" or row.get("name") == "Ada"
        return unsaid(*done) + ([] if is_known and is_filled else [f"the copy holds {row}, and nobody is told"])

    return attack


def summed_up(launcher: Launcher, folder: Path) -> list[str]:
    """A reader looks just before the sums of a day become visible, and checks the day's files by them afterwards."""
    place = make_place(folder)
    place.tenant(landing={"sha256sums": True})
    scenes.Story(place).first_day()
    run = launcher.start(folder, "run", "acme", "--until", scenes.UNTIL, hold=r"^linkat SHA256SUMS")
    run.held()
    early = [f"{path.name} is visible before its sums" for path in visible(place.out) if path.name.startswith("_MANIFEST")]
    run.go()
    done = run.wait()
    [sums] = place.out.rglob("SHA256SUMS")
    checked = subprocess.run(["sha256sum", "-c", "--quiet", sums.name], cwd=sums.parent, capture_output=True, text=True, check=False)
    return early + unsaid(done) + ([checked.stdout + checked.stderr] if checked.returncode else [])


def ghosts(launcher: Launcher, folder: Path) -> list[str]:
    """Rows of an entity that compares no keys are gone from the source, and somebody asks whether copies are true."""
    place = users(folder)
    for number in (1, 2):
        place.user(number, "Ada", WRITTEN)
    done = [launcher.run(folder, "run", "acme", "--until", scenes.UNTIL)]
    place.sql('delete from "user" where id = 2')
    done.append(launcher.run(folder, "reconcile", "acme"))
    told = "1 delivered row is gone from the source" in done[-1].said
    return ([] if told else [f"nobody is told of rows that are gone: {done[-1].said}"]) + unsaid(done[0])


def untimed(launcher: Launcher, folder: Path) -> list[str]:
    """An export without a range holds a row without a time, where only that time could tell that it was added later."""
    office = make_office(folder)
    office.place.write("catalog.yaml", catalog(measurement={**MEASUREMENT, "changes": {"mode": "full"}}))
    office.measure(1)
    office.measure(2, taken_at=None)
    return rows_exported(launcher, office, 2)


PROMISE_MUTANTS = [
    Mutant(
        "a second row of a key is looked for among changes only",
        "sources/query.py",
        "whole = replace(self, selection=replace(self.selection, changed=ChangeSpan())).where()",
        "whole = self.where()",
        given_twice,
    ),
    Mutant(
        "ids that are given out again are taken for delivered",
        "deliveries/extraction/landmarks.py",
        "if not known or known.intersection(_digests(snapshot, selection, ids)):",
        "if True:",
        given_out_again,
    ),
    Mutant(
        "the rows of a delta count as those of the source",
        "deliveries/extraction/extracting.py",
        "return snapshot.count(replace(selection, changed=ChangeSpan(), time_from=None, time_to=None))",
        "return snapshot.count(selection)",
        counted,
    ),
    Mutant(
        "a window of ids is called exact",
        "deliveries/extraction/extracting.py",
        "return by_time or job.delivery.purpose == Purpose.BACKFILL",
        "return True",
        below,
    ),
    Mutant(
        "a new column waits for changes where it is to be filled",
        "registrations/filling.py",
        "if not new or not entity.fills_new_columns:",
        "if True:",
        joined_by_a_column("full_load"),
    ),
    Mutant(
        "a new column is empty and nobody is told",
        "registrations/filling.py",
        'return tell("new_columns.empty", len(new), columns=", ".join(new)) if new else ""',
        'return ""',
        joined_by_a_column("from_now"),
    ),
    Mutant(
        "the list of a day before its sums",
        "deliveries/publishing/days.py",
        'documents = {f"{folder}/{sums.name(day.number)}": sums.sums(day.document, name), **documents}',
        'documents = {**documents, f"{folder}/{sums.name(day.number)}": sums.sums(day.document, name)}',
        summed_up,
    ),
    Mutant(
        "a server that says OK is believed",
        "deliveries/publishing/renaming.py",
        "    if wrong:\n        final, found",
        "    if False:\n        final, found",
        sent_to(SaysItRenamed),
    ),
    Mutant(
        "a lost ledger begins anew",
        "deliveries/recovery/stale_ledger.py",
        "            self._newest()\n            return",
        "            return",
        restored(lost=True),
    ),
    Mutant(
        "rows that are gone are no difference",
        "deliveries/comparison/comparing.py",
        "if counted and counted[0] and stream.watermark:",
        "if False:",
        ghosts,
    ),
    Mutant(
        "no row at all is a full load where policies hide rows",
        "sources/row_security.py",
        'if not run(sql("SELECT 1 FROM {} WHERE {} LIMIT 1", query.relation, query.tenant())):',
        "if False:",
        hidden,
    ),
    Mutant(
        "rows without a time were added after the request",
        "sources/query.py",
        'either((sql("{} IS NULL", x), sql("{} < {}", x, first), sql("{} >= {}", x, second)))',
        'either((sql("{} < {}", x, first), sql("{} >= {}", x, second)))',
        untimed,
    ),
    Mutant(
        "what changed after the request is exported",
        "requests/fulfilment/exporting.py",
        "changed=ChangeSpan(end=request.created_at, ahead",
        "changed=ChangeSpan(end=now, ahead",
        exported,
    ),
]
