"""ProFTPD with mod_sftp: a second, quite different SFTP server, for odd profiles (write-only, connection limits, no rename)."""

import contextlib
import grp
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.servers.process import Account, free_port, listening, ordinary_account, program, running, scratch
from tests.servers.sshd import SftpAccess, new_key

LOGIN = "tenant"


@contextlib.contextmanager
def serve_proftpd(*, snippet: str = "", directory: str = "", port: int | None = None) -> Iterator[SftpAccess]:
    """An SFTP server with one virtual user.

    `snippet` goes into the server's configuration (`MaxClients 1`), `directory` into the `<Directory>` of the user's folder:
    `AllowOverwrite off`; a `<Limit RETR>` block with `DenyAll` forbids reading, a `<Limit READ>` block looking at files too.
    As root the user is locked into the folder and sees it as `/`; another account cannot do that, so then paths are absolute:
    use `remote_root`.
    """
    account = ordinary_account("nobody")
    with scratch("proftpd", account) as folder:
        root = folder / "root"
        root.mkdir()
        account.own(root)
        host_key = new_key(folder / "host_key")
        port = port or free_port()
        known_hosts = folder / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{port} {host_key}\n")
        _write_login(folder, account, root)
        config = folder / "proftpd.conf"
        config.write_text(_config(folder, account, port, root, snippet, directory))
        log = folder / "proftpd.log"
        argv = [program("proftpd"), "--nodaemon", "--quiet", "--config", str(config)]
        with running(argv, ready=lambda: listening(port), log=log) as process:
            remote = "/" if os.getuid() == 0 else str(root)
            yield SftpAccess("127.0.0.1", port, LOGIN, folder / "login_key", host_key, root, remote, known_hosts, log, process.pid)


def _write_login(folder: Path, account: Account, root: Path) -> None:
    new_key(folder / "login_key")
    keys = folder / "authorized_keys"  # mod_sftp reads RFC 4716, not OpenSSH's one-line form
    exported = subprocess.run([program("ssh-keygen"), "-e", "-f", str(folder / "login_key.pub")], capture_output=True, check=True)
    keys.write_bytes(exported.stdout)
    # The login is by key; nobody knows this password, but the entry must hold one.
    password = subprocess.run(
        [program("openssl"), "passwd", "-6", "-stdin"], input=secrets.token_hex(), capture_output=True, text=True, check=True
    ).stdout.strip()
    passwd, group = folder / "passwd", folder / "group"
    passwd.write_text(f"{LOGIN}:{password}:{account.uid}:{account.gid}::{root}:/bin/false\n")
    group.write_text(f"{LOGIN}:x:{account.gid}:{LOGIN}\n")
    for path in (passwd, group, folder / "host_key"):
        path.chmod(0o600)
    account.own(keys, passwd, group)


def _config(folder: Path, account: Account, port: int, root: Path, snippet: str, directory: str) -> str:
    lock_in = "DefaultRoot ~" if os.getuid() == 0 else ""
    return f"""
LoadModule mod_sftp.c
ServerType standalone
ServerName waybill
DefaultAddress 127.0.0.1
SocketBindTight on
Port {port}
User {account.name}
Group {grp.getgrgid(account.gid).gr_name}
{lock_in}
UseReverseDNS off
ControlsEngine off
WtmpLog off
RequireValidShell off
AuthOrder mod_auth_file.c
AuthUserFile {folder}/passwd
AuthGroupFile {folder}/group
PidFile {folder}/proftpd.pid
ScoreboardFile {folder}/scoreboard
DelayEngine off
SystemLog {folder}/proftpd.log
TransferLog none
SFTPEngine on
SFTPLog {folder}/proftpd.log
SFTPHostKey {folder}/host_key
SFTPAuthMethods publickey
SFTPAuthorizedUserKeys file:{folder}/authorized_keys
MaxInstances 60
AllowOverwrite on
{snippet}
<Directory {"/" if os.getuid() == 0 else root}>
{directory}
</Directory>
"""
