"""SFTP servers that damage what they are given, for whole runs (`tests/destinations/test_sftp_faults.py` tries many more, call by call)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import yaml

from tests.faults.scenes import CONNECTION, Scene
from tests.installations import Place
from waybill_demo.sftp_server import TenantFolder, new_accounts, serve

MANY = 100


class FlipsABit(TenantFolder):
    """Keeps the size and changes a byte."""

    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        return super().write(file_obj, offset, data[:-2] + bytes([data[-2] ^ 1]) + data[-1:] if len(data) > 2 else data)


class LosesWhatItCouldNotClose(TenantFolder):
    """As a file system over its quota: all can be read back from its cache, but CLOSE tells that the end was lost, and later it shows."""

    def close(self, file_obj: Any) -> Any:
        writes = "r" not in file_obj.mode
        super().close(file_obj)
        if writes:
            raise asyncssh.SFTPFailure("")

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        with Path(self.map_path(oldpath).decode()).open("r+b") as file:
            file.seek(-20, 2)
            file.write(bytes(20))
        super().rename(oldpath, newpath)


class SaysItRenamed(TenantFolder):
    """Answers OK to a rename and does nothing."""

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        """Nothing happens."""


class LosesWhatItRenamed(TenantFolder):
    """Answers OK to the rename of a data file, and neither name is there any more."""

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        super().rename(oldpath, newpath)
        if newpath.endswith(b".csv"):
            Path(self.map_path(newpath).decode()).unlink()


class FullDisk(TenantFolder):
    """Takes a little of each file, then has no room."""

    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        if offset + len(data) > MANY:
            raise asyncssh.SFTPFailure("")
        return super().write(file_obj, offset, data)

    def statvfs(self, path: bytes) -> Any:
        return asyncssh.SFTPVFSAttrs(bsize=4096, frsize=4096, blocks=1000, bfree=10, bavail=0, files=10, ffree=10, favail=10)


@contextlib.contextmanager
def served(scene: Scene, folder: Path, view: Callable[..., TenantFolder] = TenantFolder, port: int = 0) -> Iterator[Scene]:
    """The scene with its files going to such a server, for the length of the block. For one copy only."""
    with serve(new_accounts(["acme"]), folder / "tenants", folder / "state", port, view) as server:
        tenant = yaml.safe_load((scene.root / "config/tenants/acme.yaml").read_text())

        def settle(copy: Path) -> Mapping[str, str]:
            if not (copy / "out").is_symlink():
                (copy / "out").symlink_to(folder / "tenants/acme")
            Place(copy).tenant(**tenant | {"destination": {"kind": "sftp", "connection": CONNECTION, "root": "/"}})
            return {f"AIRFLOW_CONN_{CONNECTION.upper()}": server.connection_uri("acme")}

        yield replace(scene, settle=settle)
