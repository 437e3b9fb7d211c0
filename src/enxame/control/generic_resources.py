"""Generic resources: named pieces (GPU=UUID1) and amounts (SSD=3) of a node, claimed by tasks."""

from __future__ import annotations

from collections.abc import Iterable

from enxame.model.service import DiscreteGenericResource, GenericResource, NamedGenericResource


class GenericStock:
    """What a node has left of each kind."""

    def __init__(self, resources: Iterable[GenericResource] = ()) -> None:
        self._named: dict[str, dict[str, None]] = {}
        self._amount: dict[str, int] = {}
        self.give_back(resources)

    def has(self, wanted: Iterable[GenericResource]) -> bool:
        """Whether all of it can be claimed."""
        return all(self._left(kind) >= amount for kind, amount in _amounts(wanted).items())

    def claim(self, wanted: Iterable[GenericResource]) -> list[GenericResource]:
        """Take what :meth:`has` said is there: named pieces where the kind is named, an amount otherwise."""
        claimed: list[GenericResource] = []
        for kind, amount in _amounts(wanted).items():
            pieces = self._named.get(kind)
            if pieces:
                names = list(pieces)[:amount]
                claimed += [
                    GenericResource(named_resource_spec=NamedGenericResource(kind=kind, value=name)) for name in names
                ]
            else:
                claimed.append(GenericResource(discrete_resource_spec=DiscreteGenericResource(kind=kind, value=amount)))
        self.take(claimed)
        return claimed

    def take(self, assigned: Iterable[GenericResource]) -> None:
        """Note what a task already holds."""
        for resource in assigned:
            named, discrete = resource.named_resource_spec, resource.discrete_resource_spec
            if named is not None:
                self._named.get(named.kind, {}).pop(named.value, None)
            elif discrete is not None:
                self._amount[discrete.kind] = self._amount.get(discrete.kind, 0) - discrete.value

    def give_back(self, assigned: Iterable[GenericResource]) -> None:
        """Return what a task held."""
        for resource in assigned:
            named, discrete = resource.named_resource_spec, resource.discrete_resource_spec
            if named is not None:
                self._named.setdefault(named.kind, {})[named.value] = None
            elif discrete is not None:
                self._amount[discrete.kind] = self._amount.get(discrete.kind, 0) + discrete.value

    def _left(self, kind: str) -> int:
        return len(self._named.get(kind, ())) or self._amount.get(kind, 0)


def _amounts(wanted: Iterable[GenericResource]) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for resource in wanted:
        named, discrete = resource.named_resource_spec, resource.discrete_resource_spec
        if discrete is not None:
            amounts[discrete.kind] = amounts.get(discrete.kind, 0) + discrete.value
        elif named is not None:
            amounts[named.kind] = amounts.get(named.kind, 0) + 1
    return amounts
