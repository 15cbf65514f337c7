"""Reads Airflow's `aws` connections for lakes and for S3 destinations: keys, profile, role, endpoints and further settings.

boto3 is imported where it is used, because most installations do not need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from waybill.connection import Connection


def session_of(connection: Connection, limits: Mapping[str, Any]) -> Any:
    """Return a boto3 session with the connection's credentials, or with those of the role that it names.

    Raises botocore's errors if the role cannot be assumed or the profile does not exist.
    """
    extra = connection.extra
    session = _session(
        aws_access_key_id=connection.login or extra.get("aws_access_key_id") or None,
        aws_secret_access_key=connection.password or extra.get("aws_secret_access_key") or None,
        aws_session_token=extra.get("aws_session_token") or None,
        region_name=extra.get("region_name") or None,
        profile_name=extra.get("profile_name") or None,
    )
    return _assumed(session, connection, limits) if extra.get("role_arn") else session


def _session(**options: Any) -> Any:
    import boto3
    from botocore.session import get_session

    core = get_session()
    session = boto3.session.Session(botocore_session=core, **options)  # it adds a path to the loader that it finds
    share_models(core)
    return session


def share_models(core: Any) -> None:
    """Let a session of botocore's or aiobotocore's take the descriptions of AWS's services from those that this process has read before.

    Reading them takes a tenth of a second of the processor for each session, which is most of a small upload.
    """
    core.register_component("data_loader", _models(core.get_config_variable("data_path")))


@cache
def _models(data_path: str | None) -> Any:
    from botocore.loaders import create_loader

    return create_loader(data_path)


def client_options(connection: Connection, limits: Mapping[str, Any], service: str = "s3") -> dict[str, Any]:
    """Return the options for a client of a service. `limits` are ours; the connection's `config_kwargs` override them."""
    from botocore.config import Config

    extra = connection.extra
    config = Config(**limits).merge(Config(**extra.get("config_kwargs", {})))
    return {"endpoint_url": endpoint_of(connection, service), "verify": extra.get("verify"), "config": config}


def endpoint_of(connection: Connection, service: str) -> str | None:
    """Return the service's own endpoint, or else the endpoint for all services."""
    extra = connection.extra
    return extra.get("service_config", {}).get(service, {}).get("endpoint_url") or extra.get("endpoint_url") or None


_DISTRUSTS = ("certificate", "no such file", "invalid path", "pem lib")


def fault_of(error: Exception) -> str:
    """Return what is wrong with a connection's settings, if an error tells of them and neither the network nor a server had a say."""
    from botocore import exceptions as known

    if isinstance(error, known.NoCredentialsError | known.PartialCredentialsError):
        return "there are no credentials"
    said = str(error).lower()
    if isinstance(error, known.SSLError | known.HTTPClientError) and any(mark in said for mark in _DISTRUSTS):
        return "the server's certificate is not trusted, or verify names no file of certificates"
    may_pass = (
        *(known.ConnectionError, known.HTTPClientError, known.IncompleteReadError, known.FlexibleChecksumError, known.ChecksumError),
        *(known.MetadataRetrievalError, known.CredentialRetrievalError, known.TokenRetrievalError),
    )
    is_about_settings = isinstance(error, ValueError | TypeError | known.BotoCoreError) and not isinstance(error, may_pass)
    return "a setting is not valid" if is_about_settings else ""


def _assumed(session: Any, connection: Connection, limits: Mapping[str, Any]) -> Any:
    extra = connection.extra
    wanted = {"RoleArn": extra["role_arn"], "RoleSessionName": "waybill", **extra.get("assume_role_kwargs", {})}
    if extra.get("external_id"):
        wanted["ExternalId"] = extra["external_id"]
    given = session.client("sts", **client_options(connection, limits, "sts")).assume_role(**wanted)["Credentials"]
    return _session(
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
        region_name=session.region_name,
    )
