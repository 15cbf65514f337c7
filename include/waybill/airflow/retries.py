"""Which failures Airflow tries again: the class of the error says what recovers from it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from waybill.errors import ConflictError, PermanentError, TransientError

RETRIES = 6
"""Tries after the first; with the delays below the last is half an hour after the first, and a killed worker's task waits half a minute."""


def retry_policy() -> ExceptionRetryPolicy:
    """Transient errors are tried again, permanent ones and conflicts never, anything unforeseen as the task says."""
    return ExceptionRetryPolicy(
        rules=[
            RetryRule(exception=TransientError, action=RetryAction.RETRY, reason="trying again may succeed by itself"),
            RetryRule(exception=PermanentError, action=RetryAction.FAIL, reason="the input has to be corrected first"),
            RetryRule(exception=ConflictError, action=RetryAction.FAIL, reason="a person must look: nothing was touched"),
        ]
    )


def retrying() -> dict[str, Any]:
    """Task arguments: how often and when a failed task is tried again."""
    return {
        "retries": RETRIES,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=30),
        "retry_policy": retry_policy(),
    }
