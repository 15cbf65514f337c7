"""`make sbom` names everything the product runs on, as the lock pins it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

FLOORS = {"asyncssh": (2, 20), "paramiko": (5, 0), "cryptography": (44, 0), "apache-airflow-providers-sftp": (7, 0)}
"""Versions of what touches the network, below which something is known to be wrong."""


def test_the_bill_of_materials_lists_every_locked_package_with_its_hashes(repository: Path, tmp_path: Path) -> None:
    done = subprocess.run(["make", "sbom"], cwd=repository, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    made = repository / "sbom.json"
    bill = json.loads(made.read_text())
    made.unlink()
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "waybill")
    listed = {(component["name"].lower(), component["version"]) for component in bill["components"]}
    locked = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", (repository / "requirements-runtime.txt").read_text(), re.MULTILINE)
    assert len(locked) > 100
    assert {(name, version) for name, version in locked} == listed
    assert all(any(place.get("hashes") for place in component["externalReferences"]) for component in bill["components"])
    versions = dict(locked)
    for name, floor in FLOORS.items():
        assert tuple(int(part) for part in versions[name].split(".")[:2]) >= floor, name
