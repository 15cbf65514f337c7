"""The places that files go to: a folder, an SFTP server, an S3 bucket, and the store of the archives of on-demand exports.

In: a destination's specification and its connection. Out: a `Session` that keeps the promise the delivery protocol needs. A file appears
under its final name whole or not at all, and nothing that exists is overwritten. `base` states that promise, and `folder`, `sftp/` and `s3`
keep it. `archives` holds the files that people download, and `resend_store` the bytes that can be sent again.

`local_files` renames without overwriting, `s3_client` opens and translates S3, and `public_addresses` keeps tenants' own destinations out
of the house's network.
"""

from __future__ import annotations

from pathlib import Path

from waybill.configuration.registration import DestinationSpec, FolderDestination, S3Destination, SftpDestination
from waybill.connection import Connections
from waybill.destinations.base import Destination, Item, Probe, Profile, Session, Stored

__all__ = ["Destination", "Item", "Probe", "Profile", "Session", "Stored", "open_destination"]


def open_destination(spec: DestinationSpec, base: Path, connections: Connections, profile: Profile = Profile.FULL) -> Destination:
    """Return the destination that a spec describes. A relative folder is resolved against `base`. Nothing is opened yet."""
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
