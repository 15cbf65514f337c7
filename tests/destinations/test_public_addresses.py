"""A destination that a tenant named is connected to at a public address only, and at the very address that was checked."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from tests.destinations.sftp_places import key_connection
from tests.servers.sshd import serve_sshd
from waybill.connection import Connection
from waybill.destinations.public_addresses import checked_address, is_public, public_only
from waybill.destinations.sftp.login import settings
from waybill.destinations.sftp.openssh import command_of, in_memory
from waybill.destinations.sftp.session import Sftp
from waybill.errors import PermanentError, TransientError

INNER = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::1",
    "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "fec0::1", "5f00::1", "3fff::1", "2001:db8::1", "ff02::1",
    "2606:2800:220:1:0:5efe:7f00:1", "2606:2800:220:1:200:5efe:a00:1", "168.63.129.16", "192.0.0.192", "192.88.99.1", "198.18.0.1",
]  # fmt: skip


@pytest.mark.parametrize("address", INNER)
def test_inner_addresses_are_not_public_however_they_are_written(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"])
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "0", "127.0.0.1.", "localhost\0", "１２７.0.0.1"),
        *("[::ffff:127.0.0.1]", "::1%lo", "127.0.0.1\n", "root@127.0.0.1", ""),
    ],
)
def test_a_name_or_number_that_leads_to_this_machine_is_refused(host: str) -> None:
    with pytest.raises((PermanentError, TransientError)) as caught:
        checked_address(host, 22)
    assert caught.value.code in ("private_address", "unreachable")
    assert "localhost" not in str(caught.value)
    assert "127." not in str(caught.value)


def test_an_inner_network_can_be_allowed() -> None:
    assert checked_address("127.0.0.1", 22, [ipaddress.ip_network("127.0.0.0/8")]) == "127.0.0.1"
    with pytest.raises(PermanentError):
        checked_address("127.0.0.1", 22, [ipaddress.ip_network("10.0.0.0/8")])


def test_the_checked_address_is_the_one_connected_to_and_no_name_is_looked_up_again() -> None:
    with serve_sshd() as server:
        known = replace(key_connection(server), host="no-such-name.invalid")
        with pytest.raises(TransientError), Sftp(known).connect():
            pass
        checked = replace(known, address="127.0.0.1")
        with Sftp(checked).connect() as session:
            assert session.size("/nothing") is None
        with in_memory() as memory:  # what goes through OpenSSH's client as well
            argv, _ = command_of("ssh", settings(checked), memory)
        assert argv[-3:] == ["--", "127.0.0.1", "sftp"]


def test_a_look_up_of_a_connection_checks_it_and_names_no_host() -> None:
    answers = {"acme_sftp": Connection("acme_sftp", "sftp", "localhost", 22, "acme")}
    with pytest.raises(PermanentError) as caught:
        public_only(answers.__getitem__)("acme_sftp")
    assert caught.value.code == "private_address"
    assert "localhost" not in str(caught.value)


@pytest.mark.parametrize(
    "extra", [{"endpoint_url": "http://169.254.169.254"}, {"service_config": {"sts": {"endpoint_url": "http://10.0.0.1"}}}]
)
def test_a_bucket_behind_an_endpoint_of_its_own_needs_the_operators_word(extra: dict[str, object]) -> None:
    with pytest.raises(PermanentError):
        public_only(lambda name: Connection(name, "aws", extra=extra))("acme_s3")
    assert public_only(lambda name: Connection(name, "aws"))("acme_s3").id == "acme_s3"
