"""If a tenant names its own destination, Waybill connects to public addresses only. No name of a tenant may lead into the house's network.

A name is looked up once, all its addresses are checked, and the connection goes to a checked address. A second look-up could get a
different answer (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import replace

from waybill.connection import Connection, Connections
from waybill.errors import PermanentError, TransientError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv6 addresses that a gateway (NAT64) translates. Their last four bytes are the IPv4 address they lead to."""

_GIVEN_OUT = ipaddress.IPv6Network("2000::/3")
"""All public IPv6 addresses are in this range. Anything outside leads to this machine or its network by some old convention."""

_NOBODYS = tuple(
    ipaddress.ip_network(network)
    for network in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "2001:db8::/32", "3fff::/20")  # the first is Azure's metadata
)
"""Ranges among the public ones that are nobody's server: a cloud's own services, relays and examples. Python counts some as public."""

_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")
"""How the second half of an IPv6 address begins if it ends in the IPv4 address that it is tunnelled to."""


def public_only(connections: Connections, allowed: Sequence[Network] = ()) -> Connections:
    """Return the same connections, each with the one address that may be connected to.

    Raises PermanentError `private_address` for a host that has any address which is neither public nor in an allowed network.
    """

    def lookup(connection_id: str) -> Connection:
        found = connections(connection_id)
        if found.type in ("aws", "s3") or _endpoints(found):
            _refuse_endpoints(found)
            return found
        return replace(found, address=checked_address(found.host, found.port or 22, allowed))

    return lookup


def checked_address(host: str, port: int, allowed: Sequence[Network] = ()) -> str:
    """Return the address of a host to connect to. Raises PermanentError, or TransientError if the name cannot be looked up now."""
    name = host.removeprefix("[").removesuffix("]")
    try:
        found = [str(where[4][0]) for where in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        step = "Check the host of the connection"
        raise TransientError("the host name of the destination was not found", next_step=step, code="unreachable") from error
    wrong = [address for address in found if not is_public(address) and not any(_leads_to(address) in network for network in allowed)]
    if wrong or not found:
        raise _private()
    return min(found, key=lambda address: ":" in address)  # IPv4 first, because not every house can reach IPv6


def is_public(address: str) -> bool:
    """Return whether an address is outside of inner networks, this machine, and clouds' metadata services."""
    found = _leads_to(address)
    if isinstance(found, ipaddress.IPv6Address) and found not in _GIVEN_OUT:
        return False
    return found.is_global and not found.is_multicast and not any(found in network for network in _NOBODYS)


def _leads_to(address: str) -> Address:
    """Return the address, or the IPv4 address that an IPv6 address stands for."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return found
    if found in _TRANSLATED or found.packed[8:12] in _ISATAP:
        return ipaddress.IPv4Address(found.packed[-4:])
    return found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else found)


def _endpoints(found: Connection) -> list[str]:
    services = found.extra.get("service_config") or {}
    named = (
        [found.extra, *(service for service in services.values() if isinstance(service, dict))]
        if isinstance(services, dict)
        else [found.extra]
    )
    return [str(settings["endpoint_url"]) for settings in named if settings.get("endpoint_url")]


def _refuse_endpoints(found: Connection) -> None:
    """The bucket's client looks names up by itself, so only Amazon's own are accepted unless the operator allows others."""
    if _endpoints(found):
        raise _private()


def _private() -> PermanentError:
    return PermanentError(
        "the destination is not at a public address",
        next_step="The operator may allow it: tenant_connections with the connection's full name, or private_networks, in policy.yaml",
        code="private_address",
    )
