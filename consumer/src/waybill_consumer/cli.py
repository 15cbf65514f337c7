"""The command line. Exit codes: 0 done, 1 refused or something is missing (a message says what), 2 usage."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from waybill_consumer import __version__
from waybill_consumer.errors import Refused, without_password
from waybill_consumer.progress import Progress, seen

Outcome = tuple[bool, dict[str, Any], list[str]]
"""Whether all is well, the answer for programs, and the lines for people."""


def main(arguments: Sequence[str] | None = None) -> None:
    parsed = _parser().parse_args(arguments)
    work: Callable[[argparse.Namespace], Outcome] = parsed.work
    try:
        well, answer, lines = work(parsed)
    except Refused as error:
        well, answer, lines = False, {"done": False, "problems": [{"entity": "", "what": error.located, "next_step": error.next_step}]}, []
        if not parsed.json:
            print(seen(f"waybill-consumer: {error}"), file=sys.stderr)
    except OSError as error:
        text = f"{error.filename or getattr(parsed, 'dir', '')}: {error.strerror or error}"
        well, answer, lines = False, {"done": False, "problems": [{"entity": "", "what": text, "next_step": ""}]}, []
        if not parsed.json:
            print(seen(f"waybill-consumer: {text}"), file=sys.stderr)
    except KeyboardInterrupt:
        sys.exit(130)
    text = json.dumps(answer, ensure_ascii=False, indent=2) if parsed.json else seen("\n".join(lines))
    if text and not (well and parsed.quiet):
        with contextlib.suppress(BrokenPipeError):  # the reader may have seen enough
            print(text, flush=True)
    sys.exit(0 if well else 1)


def counted(number: int, one: str, many: str = "") -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def problem_text(problem: dict[str, str]) -> str:
    return f"{problem['what']}. {problem['next_step']}." if problem["next_step"] else f"{problem['what']}."


@cache
def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="waybill-consumer", description="Fetches, checks and loads the files Waybill delivers.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    pull = _command(commands, "pull", _pull, "fetch what is new, whole deliveries only, in order")
    pull.add_argument("source", metavar="SOURCE", help="sftp://user@host/path, s3://bucket/path or a folder")
    pull.add_argument("dir", metavar="DIR", type=Path, help="where to keep the files")
    pull.add_argument("--key", default="", metavar="FILE", help="the private key to log in with (default: those of ssh, and its agent)")
    pull.add_argument("--known-hosts", default="", metavar="FILE", help="the server's key (default: ~/.ssh/known_hosts)")
    pull.add_argument("--rescan", action="store_true", help="look at every folder once more, also at those that did not change")
    once = "fetch each delivery once, and do not miss what is gone from DIR: for those who load by other means and move the files away"
    pull.add_argument("--once", action="store_true", help=once)

    _only(pull)
    _signer(pull)

    load = _command(commands, "load", _load, "load what is new into a database, each delivery in one transaction")
    load.add_argument("dir", metavar="DIR", type=Path, help="where pull keeps the files")
    load.add_argument("--to", required=True, metavar="URL", help="postgresql://user@host/database, duckdb:FILE or sqlite:FILE")
    load.add_argument("--schema", default="", metavar="S", help="the database schema for the tables (default: the database's own)")
    load.add_argument("--tenant", default="", metavar="T", help="whose deliveries, where DIR holds those of several tenants")

    _only(load)
    load.add_argument("--gpg", action="store_true", help="decrypt encrypted files with gpg, which must hold the secret key")
    _signer(load)

    verify = _command(commands, "verify", _verify, "check every manifest, file and chain")
    verify.add_argument("dir", metavar="DIR", type=Path)
    _signer(verify)

    status = _command(commands, "status", _status, "what is held, how fresh it is, and what is missing")
    status.add_argument("dir", metavar="DIR", type=Path)
    age = "exit with 1 when an entity is older, here or in a database: 26h, 8d; counted from window.to: all before it is here"
    status.add_argument("--max-age", default=None, type=_duration, metavar="AGE", help=age)
    status.add_argument("--to", default="", metavar="URL", help="ask this database what it holds (default: what load last said of each)")
    status.add_argument("--schema", default="", metavar="S", help="the schema of --to or --forget")
    forget = "count no longer: a database that load filled from DIR, or a TENANT/ENTITY that is delivered no more, until it comes again"
    status.add_argument("--forget", default="", metavar="WHAT", help=forget)
    return parser


def _signer(command: argparse.ArgumentParser) -> None:
    text = "the sender's public key, or a file of keys (allowed_signers): only what one of them signed counts; may be given several times"
    command.add_argument("--signer", action="append", default=[], metavar="KEY", help=text)


def _only(command: argparse.ArgumentParser) -> None:
    command.add_argument("--only", action="append", default=[], metavar="ENTITY", help="only this entity; may be given several times")


def _command(commands: Any, name: str, work: Callable[[argparse.Namespace], Outcome], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_argument("--quiet", action="store_true", help="print nothing when all is well, for cron")
    parser.set_defaults(work=work)
    return parser


def _duration(text: str) -> float:
    units = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
    if not (text[:-1].isdigit() and text[-1:] in units):
        raise argparse.ArgumentTypeError("write a number and a unit, as in 90m, 26h, 8d or 5w")
    return float(int(text[:-1]) * units[text[-1]])


def _pull(arguments: argparse.Namespace) -> Outcome:
    from waybill_consumer.places import Login, open_place
    from waybill_consumer.pull.failures import keep_failures
    from waybill_consumer.pull.pulling import pull
    from waybill_consumer.signatures import read_signers

    signers = read_signers(arguments.signer)
    login = Login(arguments.key, arguments.known_hosts, os.environ.get("WAYBILL_CONSUMER_PASSWORD", ""))
    shown = without_password(arguments.source)
    with keep_failures(arguments.dir), open_place(arguments.source, login) as place:
        progress = Progress(shown=not arguments.json)
        options = {"rescan": arguments.rescan, "signers": signers, "only": arguments.only, "once": arguments.once}
        report = pull(place, shown, arguments.dir, progress, **options)
    for problem in report.problems if not arguments.json else ():
        print(seen(f"waybill-consumer: {problem_text(problem)}"), file=sys.stderr)
    lines = [f"{counted(len(report.fetched), 'new delivery', 'new deliveries')}, {report.bytes} bytes", *report.notes]
    return not report.problems, report.as_json(), lines


def _load(arguments: argparse.Namespace) -> Outcome:
    from waybill_consumer.load.loading import load_into
    from waybill_consumer.signatures import read_signers

    options = {"tenant": arguments.tenant, "gpg": arguments.gpg, "signers": read_signers(arguments.signer), "only": arguments.only}
    report = load_into(arguments.to, arguments.schema, arguments.dir, Progress(shown=not arguments.json), **options)
    for problem in report.problems if not arguments.json else ():
        print(seen(f"waybill-consumer: {problem_text(problem)}"), file=sys.stderr)
    lines = [
        f"{applied['entity']}: {applied['kind']} of {counted(applied['rows'], 'row')}, to {applied['window_to']}"
        for applied in report.applied
    ]
    loaded = f"{counted(len(report.applied), 'delivery', 'deliveries')} loaded"
    return not report.problems, report.as_json(), [*lines, loaded, *report.notes]


def _verify(arguments: argparse.Namespace) -> Outcome:
    from waybill_consumer.folder.last_loads import Loads
    from waybill_consumer.folder.lock import is_pulled
    from waybill_consumer.folder.status import remember_damage
    from waybill_consumer.places.folder import folder_place
    from waybill_consumer.signatures import read_signers
    from waybill_consumer.verification import verify

    signers = read_signers(arguments.signer)
    progress = Progress(shown=not arguments.json)
    with folder_place(arguments.dir) as tree:
        progress.begin("verify", 0)
        number, loaded = count(1), Loads(arguments.dir).reached()
        report = verify(
            tree, arguments.dir.resolve().as_posix(), lambda path: progress.begin(f"{next(number)}: {path}", 0), signers, loaded
        )
        progress.end()
    remember_damage(arguments.dir, report)
    again = ["Pull once more, which fetches again what is damaged or lost here"] if report.problems and is_pulled(arguments.dir) else []
    lines = [f"problem: {problem}" for problem in report.problems] + again + [f"note: {note}" for note in report.notes]
    counts = (counted(report.manifests, "delivery", "deliveries"), counted(report.files, "file"), counted(report.rows, "row"))
    verdict = "whole" if report.is_whole else counted(len(report.problems), "problem")
    return report.is_whole, report.as_json(), [*lines, f"{', '.join(counts)}, {report.bytes} bytes: {verdict}"]


def _status(arguments: argparse.Namespace) -> Outcome:
    from waybill_consumer.folder import position
    from waybill_consumer.folder.last_loads import Loads, database_named
    from waybill_consumer.folder.status import status

    if arguments.forget and ":" not in arguments.forget:
        known = position.end(arguments.dir, arguments.forget)
        standing = "is counted no longer, until it comes again" if known else "is no TENANT/ENTITY that pull brought here"
        return known, {"done": known, "entity": arguments.forget}, [f"{arguments.forget} {standing}"]
    if arguments.forget:
        database = database_named(arguments.forget, arguments.schema)
        known = Loads(arguments.dir).forget(database)
        standing = "is counted no longer" if known else "is none that load knows here"
        return known, {"done": known, "database": database}, [f"{database} {standing}"]
    report = status(arguments.dir, arguments.max_age, to=arguments.to, schema=arguments.schema)
    return report.is_well, report.as_json(), report.lines()


if __name__ == "__main__":
    main()
