"""Commands and runs of DAGs in Airflow's own machinery, one after another: `python canary_runs.py REPOSITORY SCENES`.

SCENES is a JSON list of environments, each with the words of a command or with a DAG; before each the process takes one on. How every one
ended is printed as a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any


def main() -> None:
    repository, scenes = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    os.environ.update(scenes[0]["environment"])
    sys.path.insert(0, str(repository))
    warnings.simplefilter("ignore")
    from airflow.utils.db import initdb

    initdb()
    for scene in scenes:
        os.environ.update(scene["environment"])
        kind = next(item for item in WORK if item in scene)
        state = WORK[kind](repository, scene)
        print(json.dumps({"scene": scene["name"], "state": state}), flush=True)


def ask(repository: Path, scene: dict[str, Any]) -> str:
    """Somebody asks for an export."""
    from tests.exports import person
    from waybill.airflow import open_installation
    from waybill.requests.creating import Origin, create
    from waybill.requests.submission import Submission

    body = Submission.model_validate({"entities": ["user"], "formats": ["csv"]})
    create(open_installation(), person("ada", scene["ask"]), scene["ask"], body, Origin())
    return "success"


def command(repository: Path, scene: dict[str, Any]) -> str:
    """What `waybill WORDS` prints goes where the process prints."""
    from waybill.cli.app import main as waybill

    sys.argv = ["waybill", *scene["words"]]
    try:
        waybill()
    except SystemExit as ended:
        return "failed" if ended.code else "success"
    return "success"


def run(repository: Path, scene: dict[str, Any]) -> str:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(repository / "dags"), bundle_path=repository / "dags", bundle_name="dags-folder")
    dags, errors = dict(bag.dags), bag.import_errors
    if errors or scene["dag"] not in dags:
        return "import error"
    for task in dags[scene["dag"]].tasks:  # what may pass is not waited for here
        (task.partial_kwargs if task.is_mapped else task.__dict__)["retries"] = 0
    return str(dags[scene["dag"]].test(logical_date=None, run_conf=scene["conf"]).state)


WORK = {"ask": ask, "words": command, "dag": run}


if __name__ == "__main__":
    main()
