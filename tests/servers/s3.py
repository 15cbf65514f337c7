"""S3 over HTTP: moto's server in a process of its own."""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.servers.process import free_port, listening, running, scratch


@dataclass(frozen=True)
class S3Server:
    """Any key is accepted; these are no secrets."""

    endpoint: str
    access_key: str = "testing"
    secret_key: str = "testing"
    region: str = "us-east-1"

    @functools.cache  # noqa: B019 (as few as there are servers)
    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
        )

    @property
    def environment(self) -> dict[str, str]:
        """For programs that look for credentials in their environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
        }


@contextlib.contextmanager
def serve_s3() -> Iterator[S3Server]:
    port = free_port()
    with scratch("s3") as folder:
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        # Without this moto would try to resolve real instance metadata.
        env = {**os.environ, "MOTO_CALL_RESET_API": "false", "AWS_EC2_METADATA_DISABLED": "true"}
        with running(argv, ready=lambda: listening(port), log=folder / "moto.log", env=env, cwd=folder):
            yield S3Server(f"http://127.0.0.1:{port}")
