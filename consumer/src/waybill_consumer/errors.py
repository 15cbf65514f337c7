"""What stops a command, or one entity of it: one sentence says where and what, and one says what to do."""

from __future__ import annotations

import re


class Refused(Exception):
    """The command, or one entity, cannot go on. `where` names the file or entity, and `next_step` what a person can do."""

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        self.what = what
        self.where = where
        self.next_step = next_step
        located = f"{where}: {what}" if where else what
        super().__init__(f"{located}. {next_step}." if next_step else f"{located}.")

    @property
    def located(self) -> str:
        """What is wrong and where, without what to do. Whoever catches an error may have set `where` since."""
        return f"{self.where}: {self.what}" if self.where else self.what

    def as_problem(self, entity: str) -> dict[str, str]:
        """As reports and the files beside them keep it. `entity` is empty where it concerns all of them."""
        return {"entity": entity, "what": self.located, "next_step": self.next_step}


class Damaged(Refused):
    """A file differs from its manifest."""


class Unreachable(Refused):
    """A server, a bucket or a database does not answer. The next run may find it again."""


def without_password(url: str) -> str:
    """Return the URL of a source or database as it may be shown and kept.

    A password may contain what ends it in a URL, such as a slash. So everything from its colon to the last `@` is left out.
    """
    scheme, mark, rest = url.partition("://")
    login, colon, secret = rest.partition(":")
    if not colon or set("/@[") & set(login) or "@" not in secret or re.match(r"\d{1,5}(/|\Z)", secret):
        return url  # no password: what follows the colon, if there is one, is a port or belongs to the path
    return f"{scheme}{mark}{login}@{secret.rpartition('@')[2]}"
