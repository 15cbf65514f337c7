"""An SFTP server as a destination, over SSH that trusts only the pinned host.

In: a connection with credentials and host key, a root, and the profile that `probe` found. Out: a `Session` that uploads hidden parts,
reads them back, and publishes by one rename that never overwrites.

Read `session` first. `login` opens the connection, `channels` keeps several SFTP channels on it, `transfer` moves bytes and checks every
status, and `openssh` does the same through OpenSSH's own client for large files. `wire` and `packets` speak SFTP version 3, and `errors`
turns a server's refusal into what the caller does next.
"""
