"""Places files go to: a folder, an SFTP server, an S3 bucket, and where the archives of on-demand exports lie.

In: a destination's specification and its connection. Out: a `Session` with the promise that the delivery protocol needs: a file
appears under its final name whole or not at all, and nothing that exists is overwritten. `base` states that promise, `folder`, `sftp/` and
`s3` keep it, and `archives` holds the files that people download.
"""

from __future__ import annotations

from pathlib import Path

from waybill.configuration.registration import DestinationSpec, FolderDestination, S3Destination, SftpDestination
from waybill.connection import Connections
from waybill.destinations.base import Destination, Item, Probe, Profile, Session, Stored

__all__ = ["Destination", "Item", "Probe", "Profile", "Session", "Stored", "open_destination"]


def open_destination(spec: DestinationSpec, base: Path, connections: Connections, profile: Profile = Profile.FULL) -> Destination:
    """The destination a spec describes; a relative folder is resolved against `base`. Opens nothing yet."""
    match spec:
        case FolderDestination():
            from waybill.destinations.folder import Folder

            return Folder(base / spec.root)
        case SftpDestination():
            from waybill.destinations.sftp.session import Sftp

            return Sftp(connections(spec.connection), spec.root, profile)
        case S3Destination():
            from waybill.destinations.s3 import S3

            return S3(spec, connections, profile)
