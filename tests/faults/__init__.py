"""Fault campaigns: real processes and real servers, broken on purpose, judged by one oracle (`oracle.py`).

`make test` runs a seeded short form; `make test-faults` sets FAULTS=full and tries every point.
"""

import os

FULL = os.environ.get("FAULTS") == "full"
SEED = int(os.environ.get("FAULTS_SEED", "1"))
