"""What a task still imports in a worker that is warm: each module costs every task of every night."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PARSE = """
import json, sys
from waybill.airflow.listener import warm
warm()
import airflow.sdk.execution_time.supervisor
before = set(sys.modules)
import airflow.sdk.execution_time.task_runner
from airflow.dag_processing.dagbag import BundleDagBag  # as its `parse` does in the process of each task
from pathlib import Path
bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=Path(sys.argv[1]).parent, bundle_name="dags-folder", load_op_links=False)
print(json.dumps([sorted(bag.dags), bag.import_errors, sorted(set(sys.modules) - before)]))
"""


def test_the_process_of_a_task_finds_what_it_needs_imported(tmp_path: Path, repository: Path) -> None:
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "WAYBILL_CONFIG_DIR": str(tmp_path / "config"),
        "_AIRFLOW_PARSING_CONTEXT_DAG_ID": "export__acme",
        "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "plan",
    }
    argv = [sys.executable, "-c", PARSE, str(repository / "dags/tenant_exports.py")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600, check=True)
    dags, errors, imported = json.loads(done.stdout.splitlines()[-1])
    assert (dags, errors) == (["export__acme"], {})
    assert len(imported) < 20, imported
