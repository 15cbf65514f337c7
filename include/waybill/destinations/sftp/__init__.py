"""An SFTP server as a destination, over SSH that trusts only the pinned host.

In: a connection with credentials and host key, a root, and the profile that `probe` found. Out: a `Session` that uploads hidden files,
reads them back, and publishes by one rename that never overwrites.

Read `session` first: it publishes and replaces by renaming, and looks at the name when a server refuses. An upload is tried again by its
caller, `deliveries.publishing.upload`, and a rename whose answer is lost by `deliveries.publishing.renaming`. `login` opens the connection
with the `ssh_keys` of hosts and logins, and `channels` keeps several channels on it. `transfer` moves bytes and checks every status, with
`reading` for what is ahead and `read_back` for what comes back of an upload, and `openssh` does the same through OpenSSH's own client for
large files. `wire` and `packets` speak SFTP version 3, `probe` rehearses a delivery, and `errors` turns a server's refusal into what the
caller does next.
"""

__all__ = ["channels", "login", "session", "ssh_keys"]
