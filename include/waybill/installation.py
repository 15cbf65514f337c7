"""What every use case works with: settings, configuration, ledger, connections and a clock. A shell hands it down."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, cached_property
from typing import Any, NamedTuple

from sqlalchemy import Connection

from waybill import __version__
from waybill.access import tenant_id
from waybill.configuration import loading
from waybill.configuration.catalog import Catalog, Entity, closest
from waybill.configuration.loading import Configuration, Settings
from waybill.configuration.registration import DestinationSpec, FolderDestination, Registration
from waybill.connection import Connections
from waybill.destinations import Destination, Profile, Session, open_destination
from waybill.destinations.public_addresses import public_only
from waybill.destinations.resend_store import Kept, open_kept
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.files.signing import Signer, open_signer
from waybill.language import wording
from waybill.ledger import Ledger, destinations, registrations
from waybill.ledger.registrations import Registered
from waybill.sources import Source, open_source, reuse

PRODUCED_BY = f"waybill {__version__}"


class Reach(NamedTuple):
    """What a session is opened with. Tenants whose destinations are reached alike share one.

    `spec` is the destination as JSON, `profile` what the tenant's rehearsal found there. With `public_only`, the session connects to no
    inner address.
    """

    spec: str
    profile: Profile
    public_only: bool


@dataclass(frozen=True)
class _OpenSessions:
    """Open sessions by what they `reach`. They stay open `until` the stack is closed."""

    until: ExitStack
    open: dict[Reach, Session] = field(default_factory=dict)


@dataclass(frozen=True)
class Installation:
    """One installation of Waybill. `connect_db` opens a database connection by its id, for sources of kind dbapi."""

    settings: Settings
    ledger: Ledger
    connections: Connections
    now: Callable[[], datetime]
    connect_db: Callable[[str], Any] | None = field(default=None, repr=False)
    _sessions: list[_OpenSessions] = field(default_factory=list, init=False, repr=False, compare=False)
    _signers: dict[str, Signer] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def configuration(self) -> Configuration:
        """The configuration is read once per installation. A long-lived process makes a new installation to see changes."""
        return loading.load(self.settings.config_dir)

    def again(self) -> Installation:
        """Return the same installation for the next request of a long-lived process. It sees tenants' files as they are then."""
        fresh = replace(self)
        fresh.go_on_with(self.configuration.again())
        return fresh

    def go_on_with(self, configuration: Configuration) -> None:
        """Work with this configuration from now on, instead of what the files say."""
        self.__dict__["configuration"] = configuration  # where `cached_property` keeps it

    @property
    def catalog(self) -> Catalog:
        """Return the catalog. Raises ConfigError if the catalog or the policy has problems."""
        return self.configuration.require_catalog()

    @property
    def kept(self) -> Kept | None:
        """Return the place where delivered bytes are kept for redelivery, or None if the policy keeps none."""
        return self.all_kept if self.configuration.policy.archive_days else None

    @property
    def all_kept(self) -> Kept:
        """Return the store of deliveries whose bytes were ever kept, even if the policy keeps none any more."""
        return open_kept(self.settings.archive_url, self.settings.base, self.connections)

    def registered(self, tenant: str) -> Registered:
        """Return the tenant's registration in force. Raises PermanentError for an unknown tenant."""
        with self.ledger.read() as connection:
            found = registrations.current(connection, tenant_id(tenant))
            known = [] if found else registrations.ids(connection)
        if found is None:
            raise PermanentError(
                f"the tenant {tenant!r} is not registered" + (f"; did you mean {near}?" if (near := closest(tenant, known)) else ""),
                next_step=f"Add config/tenants/{tenant}.yaml and run `waybill apply`, or register it through the API",
                code="unknown_tenant",
            )
        return found

    def words_of(self, tenant: str) -> Registration:
        """Return what is registered of a tenant, or else what its file says. For a tenant that neither knows, it is an empty
        registration.
        """
        with self.ledger.read() as connection:
            found = registrations.current(connection, tenant_id(tenant))
        file = None if found else self.configuration.file_of(tenant)
        return found.registration if found else file.registration if file else Registration()

    def own_words(self, tenant: str) -> Mapping[str, str]:
        """Return the sentences that a tenant's product words itself. There are none if the policy cannot be read: the sentence that says so
        must still be said.
        """
        try:
            return self.configuration.export_policy(tenant).words
        except WaybillError:
            return {}

    def speaking_to(self, tenant: str) -> AbstractContextManager[None]:
        """Put every sentence inside the block into the words of the tenant's product."""
        return wording(cache(lambda: self.own_words(tenant)))

    def entity(self, entity_id: str) -> Entity:
        """Return a catalogued entity. Raises PermanentError if the catalog has none of that id."""
        found = self.catalog.entity(entity_id)
        if found is None:
            raise PermanentError(
                f"the catalog has no entity {entity_id!r}",
                allowed=", ".join(self.catalog.entities),
                next_step="Put it back, or take it out of the registration",
                code="unknown_entity",
            )
        return found

    def source(self, name: str) -> Source:
        return open_source(self.catalog.sources[name], self.settings.base, self.connections, self.connect_db)

    def signer(self, tenant: str) -> Signer | None:
        """Return who signs the tenant's manifests, or None if they are not signed. Raises PermanentError if the key cannot be used."""
        name = self.configuration.export_policy(tenant).signing
        if name is not None and name not in self._signers:
            self._signers[name] = open_signer(self.connections(name))
        return self._signers[name] if name else None

    def destination_spec(self, registered: Registered) -> DestinationSpec:
        return registered.registration.destination or self.configuration.policy.destination

    def destination(self, registered: Registered) -> Destination:
        return self._destination(registered, self.reach(registered))

    def reach(self, registered: Registered) -> Reach:
        with self.ledger.read() as connection:
            return self._reach(connection, registered)

    def _reach(self, connection: Connection, registered: Registered) -> Reach:
        profile = destinations.profile(connection, registered.tenant)
        spec = self.destination_spec(registered).model_dump_json()
        return Reach(spec, Profile(profile or Profile.FULL), self._is_tenants_own(registered))

    def _destination(self, registered: Registered, reach: Reach) -> Destination:
        connections = public_only(self.connections, self.configuration.policy.private_networks) if reach.public_only else self.connections
        return open_destination(self.destination_spec(registered), self.settings.base, connections, reach.profile)

    def _is_tenants_own(self, registered: Registered) -> bool:
        """Return whether a tenant's token named this destination, and the operator did not name that very connection for it."""
        chosen = registered.registration.destination
        if chosen is None or isinstance(chosen, FolderDestination) or not registered.actor.startswith("api:"):
            return False
        return chosen.connection not in self.configuration.policy.rules_for(registered.tenant)

    @contextmanager
    def session(self, registered: Registered, *, rest_failing: bool = False) -> Iterator[Session]:
        """Connect to the tenant's destination. With `rest_failing` (schedulers) a destination that failed several times in a row is
        left alone for a while.

        Raises TransientError `destination_paused` in that case, without connecting. The first try after the pause connects again.
        """
        kept = self._sessions[-1] if self._sessions else None
        with self.ledger.read() as connection:
            reach = self._reach(connection, registered)
            key = hashlib.sha256(reach.spec.encode()).hexdigest()
            session = kept.open.get(reach) if kept else None
            failures, paused = (0, None) if session else destinations.failures_of(connection, key)
        if session:
            yield session
            return
        if rest_failing and paused is not None and paused > self.now():
            what = f"not tried before {paused.isoformat(timespec='seconds')}, since it did not answer several times in a row"
            next_step = "Check the server, then rehearse the destination: when it answers, the pause is over"
            raise TransientError(what, next_step=next_step, code="destination_paused")
        with nullcontext(kept.until) if kept else ExitStack() as stack:
            try:
                session = stack.enter_context(self._destination(registered, reach).connect())
            except TransientError:
                with self.ledger.begin() as connection:
                    destinations.note_failure(connection, key, self.now())
                raise
            if failures:
                with self.ledger.begin() as connection:
                    destinations.forget_failures(connection, key)
            if kept:
                kept.open[reach] = session
            yield session

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Let everything inside the block share one connection to each destination, and one engine."""
        with ExitStack() as stack, reuse.kept():
            self._sessions.append(_OpenSessions(stack))
            try:
                yield
            finally:
                self._sessions.pop()
