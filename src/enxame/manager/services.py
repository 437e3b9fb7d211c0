"""Use cases around services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec.structs import replace

from enxame.errors import EnxameError, InvalidArgument, rpc_error
from enxame.manager import lookup, service_defaults, service_references, service_validation
from enxame.manager.matching import matches_head
from enxame.manager.service_status import service_status
from enxame.model.base import ObjectVersion
from enxame.model.filters import Filters
from enxame.model.service import (
    JobStatus,
    Service,
    ServiceCreateResponse,
    ServiceInternal,
    ServiceMode,
    ServiceSpec,
    ServiceUpdateResponse,
    UpdateStatus,
)
from enxame.store.interface import Tx
from enxame.store.store import Store

__all__ = ["ServiceControl"]


class ServiceControl:
    """``/services``. What is returned holds ``internal`` parts: whoever shows it to a client takes them out."""

    def __init__(
        self,
        store: Store,
        *,
        wall: Callable[[], datetime],
        new_id: Callable[[], str],
        new_name: Callable[[], str],
    ) -> None:
        self._store = store
        self._wall = wall
        self._new_id = new_id
        self._new_name = new_name

    def list(self, filters: Filters, *, status: bool = False) -> Sequence[Service]:
        """Services that match ``id``, ``name``, ``label``, ``mode``, ``runtime``; with ``status`` their counts."""
        modes = filters.get("mode")
        if not filters.get("runtime") <= {"container", ""}:
            return []
        view = self._store.view
        found = [
            service
            for service in view.all(Service)
            if matches_head(filters, service.id, service.spec.name, service.spec.labels)
            and (not modes or _mode_name(service.spec.mode) in modes)
        ]
        if not status:
            return found
        return [replace(service, service_status=service_status(view, service)) for service in found]

    def get(self, ref: str, *, insert_defaults: bool = False) -> Service:
        """The service with this id, name or beginning of an id."""
        service = lookup.service(self._store.view, ref)
        if insert_defaults:
            return replace(service, spec=service_defaults.insert_defaults(service.spec))
        return service

    async def create(self, spec: ServiceSpec, *, registry_auth: str = "", object_id: str = "") -> ServiceCreateResponse:
        """Make a service. ``registry_auth`` is the client's ``X-Registry-Auth``, for the nodes that pull. With an
        ``object_id`` it gets this one; when it is there already, this request has made it before.

        Raises:
            InvalidArgument, NotFound: the spec breaks a rule or names what does not exist.
            Conflict: the name is taken.
        """
        if not spec.name:
            spec = replace(spec, name=self._new_name())
        service_validation.validate(spec)
        wanted = service_defaults.normal(spec)
        service_id = object_id or self._new_id()
        is_job = wanted.mode.replicated_job is not None or wanted.mode.global_job is not None

        def change(tx: Tx) -> None:
            if object_id and tx.get(Service, object_id) is not None:
                return
            resolved = service_references.with_network_ids(tx, wanted)
            service_references.check_ports(tx, resolved)
            service_references.check_ingress(tx, resolved)
            service_references.check_payloads(tx, resolved)
            tx.create(
                Service(
                    id=service_id,
                    spec=resolved,
                    job_status=JobStatus(last_execution=self._wall()) if is_job else None,
                    internal=ServiceInternal(registry_auth=registry_auth),
                )
            )

        await self._store.update(change)
        return ServiceCreateResponse(id=service_id)

    async def update(
        self,
        ref: str,
        version: int,
        spec: ServiceSpec,
        *,
        registry_auth: str = "",
        registry_auth_from: str = "spec",
        rollback: str = "",
    ) -> ServiceUpdateResponse:
        """Replace a service's spec, or with ``rollback="previous"`` go back to the one before.

        Without ``registry_auth`` the credentials stay: those of the present spec, or with
        ``registry_auth_from="previous-spec"`` those of the one before.

        Raises:
            InvalidArgument, NotFound: the spec breaks a rule or names what does not exist.
            Unimplemented: renaming, change of mode.
            EnxameError: ``update out of sequence``.
        """
        if rollback not in ("", "none", "previous"):
            raise InvalidArgument(f"unrecognized rollback option {rollback}")
        if registry_auth_from not in ("", "spec", "previous-spec"):
            raise InvalidArgument("unsupported registryAuthFrom value")
        service_id = lookup.service(self._store.view, ref).id
        if not spec.name:
            spec = replace(spec, name=self._new_name())
        service_validation.validate(spec)
        wanted = service_defaults.normal(spec)
        from_previous = registry_auth_from == "previous-spec"

        def change(tx: Tx) -> None:
            service = lookup.service(tx, service_id)
            resolved = service_references.with_network_ids(tx, wanted)
            if resolved.endpoint_spec != service.spec.endpoint_spec:
                service_references.check_ports(tx, resolved, service_id)
            service_references.check_payloads(tx, resolved)
            _check_kept(service.spec, resolved)
            if rollback == "previous":
                changed = self._rolled_back(service)
            else:
                auth = registry_auth or _kept_auth(service, from_previous=from_previous)
                changed = _updated(service, resolved, auth)
            service_references.check_ingress(tx, changed.spec)
            tx.update(replace(self._next_run(changed), version=ObjectVersion(index=version)))

        await self._store.update(change)
        return ServiceUpdateResponse()

    async def remove(self, ref: str) -> None:
        """Remove a service; its tasks follow."""
        service_id = lookup.service(self._store.view, ref).id

        def change(tx: Tx) -> None:
            tx.delete(Service, lookup.service(tx, service_id).id)

        await self._store.update(change)

    def _rolled_back(self, service: Service) -> Service:
        if service.previous_spec is None:
            raise rpc_error("FailedPrecondition", f"service {service.id} does not have a previous spec")
        internal = service.internal or ServiceInternal()
        return replace(
            service,
            spec=service.previous_spec,
            previous_spec=service.spec,
            update_status=UpdateStatus(
                state="rollback_started", started_at=self._wall(), message="manually requested rollback"
            ),
            internal=ServiceInternal(
                spec_version=internal.previous_spec_version,
                previous_spec_version=internal.spec_version,
                registry_auth=internal.previous_registry_auth,
                previous_registry_auth=internal.registry_auth,
            ),
        )

    def _next_run(self, service: Service) -> Service:
        """Every update of a job runs it once more."""
        if service.job_status is None:
            return service
        iteration = ObjectVersion(index=service.job_status.job_iteration.index + 1)
        return replace(service, job_status=JobStatus(job_iteration=iteration, last_execution=self._wall()))


def _updated(service: Service, spec: ServiceSpec, registry_auth: str) -> Service:
    internal = service.internal or ServiceInternal()
    # What tasks are made from: where only counts, labels or the manner of updating change, no task is looked at.
    changed = (spec.task_template, spec.endpoint_spec) != (service.spec.task_template, service.spec.endpoint_spec)
    return replace(
        service,
        spec=spec,
        previous_spec=service.spec,
        update_status=None,
        internal=ServiceInternal(
            # Above every spec version before: those were versions of the service when it was older.
            spec_version=service.version.index if changed else internal.spec_version,
            previous_spec_version=internal.spec_version,
            registry_auth=registry_auth,
            previous_registry_auth=internal.registry_auth,
        ),
    )


def _kept_auth(service: Service, *, from_previous: bool) -> str:
    internal = service.internal or ServiceInternal()
    if not from_previous:
        return internal.registry_auth
    if service.previous_spec is None:
        raise EnxameError("service does not have a previous spec")
    return internal.previous_registry_auth


def _check_kept(before: ServiceSpec, after: ServiceSpec) -> None:
    """What an update may not change."""
    if _mode_name(before.mode) != _mode_name(after.mode):
        raise rpc_error("Unimplemented", "service mode change is not allowed")
    if before.name != after.name:
        raise rpc_error("Unimplemented", "renaming services is not supported")


def _mode_name(mode: ServiceMode) -> str:
    if mode.global_ is not None:
        return "global"
    if mode.replicated_job is not None:
        return "replicated-job"
    if mode.global_job is not None:
        return "global-job"
    return "replicated"
