"""Sends mail over SMTP, with the settings of an Airflow SMTP connection."""

from __future__ import annotations

import contextlib
import logging
import smtplib
import ssl
from collections.abc import Iterable, Iterator
from datetime import datetime
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import default as DEFAULT

from waybill.connection import Connection
from waybill.errors import PermanentError, TransientError

_SSL_PORT, _PLAIN_PORT = 465, 25
_TIMEOUT = 30.0
_PERMANENT = 500

REFUSED = "mail_refused"
"""The error code of a message that must not be sent again."""

log = logging.getLogger(__name__)


def _sender_of(connection: Connection, wanted: str) -> str:
    """Return the sender: as asked, else the connection's `from_email`, else its login. Raises PermanentError if it is no address."""
    given = (wanted, str(connection.extra.get("from_email") or ""), connection.login)
    found = next((_one_line(address) for address in given if "@" in address), "")
    if not _is_written(found):
        raise PermanentError(
            f"the connection {connection.id} names no sender",
            next_step="Set mail.sender in policy.yaml, or from_email in the connection's extra",
            code="mail_sender",
        )
    return found


def composed(connection: Connection, sender: str, to: Iterable[str], subject: str, text: str, *, key: str, at: datetime) -> EmailMessage:
    """Return a message. Every try of it has the same `key`, and so the same id, by which a mail program recognises a repetition.

    `sender` is the wanted one, as in `_sender_of`, whose errors it raises. Raises PermanentError with the code `REFUSED` for a recipient
    that no message can be written to.
    """
    message, found, recipients = EmailMessage(), _sender_of(connection, sender), ", ".join(map(_one_line, to))
    if not _is_written(recipients):
        step = "Correct the address of the person who is to hear of it; this message is not sent again"
        raise PermanentError("the recipient is no address", where=f"connection {connection.id}", next_step=step, code=REFUSED)
    message["Subject"], message["From"], message["To"] = _one_line(subject), found, recipients
    message["Message-ID"] = f"<{key}@{found.rpartition('@')[2].strip('>')}>"
    message["Date"] = at
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_encodable(text))
    return message


def _encodable(text: str) -> str:
    """Return a text without halves of characters, which a name in a token may hold, and no message."""
    return text.encode(errors="replace").decode()


def _one_line(text: str) -> str:
    """Return a text as a header may hold it. Names and words of others may hold a line break."""
    return " ".join(_encodable(text).split())


def _is_written(addresses: str) -> bool:
    """Return whether a header can hold these addresses. Python's parser fails on some that are none, such as `ada@`."""
    try:
        return bool(addresses and DEFAULT.header_factory("To", addresses).addresses)
    except (ValueError, LookupError, MessageError):
        return False


def send(connection: Connection, message: EmailMessage) -> None:
    """Hand one message to the server. What happens afterwards is not reported.

    Raises PermanentError with the code `REFUSED` if the server will never take this message, and TransientError if it may take it later.
    """
    where = f"connection {connection.id}"
    try:
        with _open(connection) as server:
            left_out = server.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        if _is_final(error):
            raise PermanentError(
                f"the mail server refused the message for good ({_reason(error)})",
                where=where,
                next_step="Correct the address, or ask the mail server's owner; this message is not sent again",
                code=REFUSED,
            ) from error
        raise TransientError(
            f"the mail server did not take the message ({_reason(error)})",
            where=where,
            next_step="It is tried again later",
            code="mail",
        ) from error
    if left_out:
        log.warning("%s: the mail server refused %s of the people a message is for (%s).", where, len(left_out), _codes(left_out.values()))


def _is_final(error: Exception) -> bool:
    """Return whether trying again cannot help: the server answered 5xx about every recipient or about the message itself (RFC 5321)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= _PERMANENT for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPNotSupportedError) or (isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= _PERMANENT)


def _codes(answers: Iterable[tuple[int, bytes]]) -> str:
    return ", ".join(sorted({str(code) for code, _ in answers}))


@contextlib.contextmanager
def _open(connection: Connection) -> Iterator[smtplib.SMTP]:
    """Open a session. Raises PermanentError for settings that cannot work: the messages wait until somebody mends them."""
    try:
        server = _connected(connection)
    except (ValueError, smtplib.SMTPNotSupportedError) as error:
        # Without the words of the error: they may quote the password.
        raise PermanentError(
            f"the settings of the mail connection do not work ({type(error).__name__})",
            where=f"connection {connection.id}",
            next_step="Check its host, login, password and timeout, and whether the server offers encryption (disable_tls) and a login",
            code="mail_connection",
        ) from None
    try:
        yield server
    finally:
        # A server that took the message has taken it, even if its goodbye fails.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            server.quit()
        server.close()


def _connected(connection: Connection) -> smtplib.SMTP:
    """Connect and log in. It is encrypted unless the connection's extra has `disable_ssl` and `disable_tls`, as in Airflow's SMTP hook."""
    extra = connection.extra
    timeout, context = float(extra.get("timeout") or _TIMEOUT), ssl.create_default_context()
    if _is_on(extra.get("disable_ssl")):
        server = smtplib.SMTP(connection.host, connection.port or _PLAIN_PORT, timeout=timeout)
    else:
        server = smtplib.SMTP_SSL(connection.host, connection.port or _SSL_PORT, timeout=timeout, context=context)
    try:
        if not isinstance(server, smtplib.SMTP_SSL) and not _is_on(extra.get("disable_tls")):
            server.starttls(context=context)
        if connection.login and connection.password:
            server.login(connection.login, connection.password)
    except BaseException:
        server.close()
        raise
    return server


def _is_on(value: object) -> bool:
    return str(value).lower() in ("true", "1", "yes")


def _reason(error: Exception) -> str:
    """Return what happened, without the server's own words: they may quote addresses or logins."""
    code = _codes(error.recipients.values()) if isinstance(error, smtplib.SMTPRecipientsRefused) else getattr(error, "smtp_code", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
