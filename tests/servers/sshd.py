"""OpenSSH's own sshd, SFTP only, for the current account."""

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import current_account, free_port, listening, program, running, scratch, tail


class SftpFailed(RuntimeError):
    """A command of the `sftp` program failed; the message holds what it and the server said."""


@dataclass(frozen=True)
class SftpAccess:
    """What a client needs to know: where, who, with which key, and which host key to expect."""

    host: str
    port: int
    login: str
    private_key: Path
    host_key: str  # as in known_hosts without the host: `ssh-ed25519 AAAA...`
    root: Path  # the folder on this machine the login begins in
    remote_root: str  # the same folder as the client names it
    known_hosts: Path
    log: Path
    pid: int

    def sftp(self, *commands: str, check: bool = True) -> str:
        """Run commands through the `sftp` program, as a consumer would; its output. Raises SftpFailed at the first that fails."""
        argv = [program("sftp"), "-q", "-b", "-", "-P", str(self.port), "-i", str(self.private_key)]
        options = [f"UserKnownHostsFile={self.known_hosts}", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes"]
        options += ["IdentitiesOnly=yes", "BatchMode=yes", "ConnectTimeout=10"]
        argv += [part for option in options for part in ("-o", option)]
        argv += ["-F", "/dev/null", f"{self.login}@{self.host}"]
        done = subprocess.run(argv, input="\n".join(commands) + "\n", capture_output=True, text=True, timeout=180, check=False)
        if check and done.returncode != 0:
            raise SftpFailed(f"{done.stdout}{done.stderr}--- end of {self.log}\n{tail(self.log)}")
        return done.stdout + done.stderr


def new_key(path: Path) -> str:
    """Make an ed25519 key pair at `path`; the public line without its comment."""
    subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


@contextlib.contextmanager
def serve_sshd(
    *, extra_config: str = "", sftp_options: str = "", port: int | None = None, host_key: Path | None = None
) -> Iterator[SftpAccess]:
    """An SFTP server whose logins begin in `root`. An account that is not root cannot be locked in there, so paths are absolute.

    `extra_config` goes in front of the configuration (sshd keeps the first value of a setting; a Subsystem there replaces ours),
    `sftp_options` to the internal sftp server (`-R` for read-only, `-u 077`, `-P rename` to forbid requests). `host_key` is a private key
    to show in place of a new one.
    """
    account = current_account()
    with scratch("sshd") as folder:
        root = folder / "root"
        root.mkdir()
        if host_key:
            shutil.copy(host_key, folder / "host_key")
        shown = " ".join(host_key.with_name(f"{host_key.name}.pub").read_text().split()[:2]) if host_key else new_key(folder / "host_key")
        login_key = new_key(folder / "login_key")
        (folder / "authorized_keys").write_text(login_key + "\n")
        port = port or free_port()
        known_hosts = folder / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{port} {shown}\n")
        config = folder / "sshd_config"
        config.write_text(_config(folder, account.name, port, root, extra_config, sftp_options))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own condition when it runs as root
        log = folder / "sshd.log"
        argv = [program("sshd"), "-D", "-e", "-f", str(config)]
        with running(argv, ready=lambda: listening(port), log=log) as process:
            yield SftpAccess("127.0.0.1", port, account.name, folder / "login_key", shown, root, str(root), known_hosts, log, process.pid)


def _config(folder: Path, login: str, port: int, root: Path, extra: str, sftp_options: str) -> str:
    return f"""{extra}
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM {"yes" if _locked(login) else "no"}
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowUsers {login}
UseDNS no
MaxStartups 200
LogLevel VERBOSE
{"" if "Subsystem" in extra else f"Subsystem sftp internal-sftp {sftp_options}"}
ForceCommand internal-sftp -d {root} {sftp_options}
"""


def _locked(login: str) -> bool:
    """Whether sshd would take the account for locked (a `!` in place of the password), which it forgives only under PAM."""
    if os.getuid() != 0:
        return False
    for line in Path("/etc/shadow").read_text().splitlines():
        name, password = line.split(":")[:2]
        if name == login:
            return password.startswith("!")
    return pwd.getpwnam(login).pw_passwd.startswith("!")
