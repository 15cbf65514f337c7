"""Decides which failures Airflow tries again. The class of the error says what recovers from it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from waybill.errors import ConflictError, PermanentError, TransientError

RETRIES = 6
"""The number of tries after the first. With the delays below, the last one comes half an hour after the first. A task whose worker was
killed waits half a minute.
"""


def retry_policy() -> ExceptionRetryPolicy:
    """Transient errors are tried again. Permanent errors and conflicts are not. Any other error is treated as the task says."""
    return ExceptionRetryPolicy(
        rules=[
            RetryRule(exception=TransientError, action=RetryAction.RETRY, reason="trying again may succeed by itself"),
            RetryRule(exception=PermanentError, action=RetryAction.FAIL, reason="the input has to be corrected first"),
            RetryRule(exception=ConflictError, action=RetryAction.FAIL, reason="a person must look: nothing was touched"),
        ]
    )


def retrying() -> dict[str, Any]:
    """Return the task arguments that say how often and when a failed task is tried again."""
    return {
        "retries": RETRIES,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=30),
        "retry_policy": retry_policy(),
    }
