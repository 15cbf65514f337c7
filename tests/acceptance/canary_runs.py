"""Runs of a tenant's DAG in Airflow's own machinery, one after another, in a process of its own: `python canary_runs.py REPOSITORY SCENES`.

SCENES is a JSON list of environments; before each run the process takes one on. The state of every run is printed as a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path


def main() -> None:
    repository, scenes = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    os.environ.update(scenes[0]["environment"])
    warnings.simplefilter("ignore")
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import initdb

    initdb()
    for scene in scenes:
        os.environ.update(scene["environment"])
        bag = DagBag(str(repository / "dags"), bundle_path=repository / "dags", bundle_name="dags-folder")
        dags, errors = dict(bag.dags), bag.import_errors
        state = "import error"
        if not errors and scene["dag"] in dags:
            for task in dags[scene["dag"]].tasks:  # what may pass is not waited for here
                (task.partial_kwargs if task.is_mapped else task.__dict__)["retries"] = 0
            state = str(dags[scene["dag"]].test(logical_date=None, run_conf=scene["conf"]).state)
        print(json.dumps({"scene": scene["name"], "state": state}), flush=True)


if __name__ == "__main__":
    main()
