"""Proofs from a stored RFC 6962 tree.

The tree is kept as its perfect subtrees, each node under its level (0 for leaves) and index: a node is written once,
when its last leaf arrives, and never changes. Roots and proofs of any size up to the present one are made of O(log n)
such nodes. A plan names the nodes first and makes hashes of them afterwards, so that the caller reads them in a single
query, synchronously or not. The hashes themselves, the growing of a tree and the verifying of proofs are defined in
`verify`, which stands alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pmis.ledger.verify import (
    EMPTY_ROOT,
    CompactRange,
    join_subtrees,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "EMPTY_ROOT",
    "READ_NODES",
    "CompactRange",
    "MissingNodeError",
    "NodeId",
    "Plan",
    "consistency_plan",
    "inclusion_plan",
    "leaf_hash",
    "node_hash",
    "node_parameters",
    "range_plan",
    "verify_consistency",
    "verify_inclusion",
]

NodeId = tuple[int, int]
"""Level and index."""

READ_NODES: Final = (
    "select level, idx, hash from ledger.tree_node "
    "where (level, idx) in (select * from unnest(%s::smallint[], %s::bigint[]))"
)
"""The rows of some nodes; its parameters are `node_parameters(...)`."""


class MissingNodeError(LookupError):
    """A node that the stored tree must have is not there."""


def node_parameters(nodes: Iterable[NodeId]) -> tuple[list[int], list[int]]:
    """The parameters of `READ_NODES`."""
    distinct = sorted(set(nodes))
    return [level for level, _ in distinct], [index for _, index in distinct]


@dataclass(frozen=True, slots=True)
class Plan:
    """The hashes of a proof, each by the perfect subtrees it is made of, from left to right."""

    parts: tuple[tuple[NodeId, ...], ...]

    @property
    def nodes(self) -> list[NodeId]:
        """Every node to read."""
        return [node for part in self.parts for node in part]

    def hashes(self, stored: Mapping[NodeId, bytes]) -> list[bytes]:
        """The proof; raises MissingNodeError when the stored tree lacks a node."""
        return [_fold(part, stored) for part in self.parts]


def _fold(part: tuple[NodeId, ...], stored: Mapping[NodeId, bytes]) -> bytes:
    try:
        return join_subtrees([stored[node] for node in part])
    except KeyError as error:
        level, index = error.args[0]
        raise MissingNodeError(f"the stored tree has no node {index} at level {level}") from None


def _subtrees(start: int, stop: int) -> tuple[NodeId, ...]:
    """The perfect subtrees that cover the leaves from `start` to before `stop`, from left to right."""
    nodes: list[NodeId] = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        nodes.append((level, start >> level))
        start += 1 << level
    return tuple(nodes)


def range_plan(size: int) -> Plan:
    """The perfect subtrees of a tree of that size, one by one; nothing for an empty tree."""
    return Plan(tuple((node,) for node in _subtrees(0, size)))


def _split(width: int) -> int:
    """The largest power of two below the width: where RFC 6962 divides a tree."""
    return 1 << (width - 1).bit_length() - 1


def inclusion_plan(index: int, size: int, *, unit: int = 1) -> Plan:
    """The proof that leaf `index` is in the tree of that size (RFC 9162, 2.1.3.1).

    With `unit`, a power of two, the proof is of a whole subtree: number `index` of those of `unit` leaves, the last of
    which may be incomplete.
    """
    width = -(-size // unit)
    if not 0 <= index < width:
        raise ValueError(f"a tree of {width} has no number {index}")
    parts: list[tuple[NodeId, ...]] = []
    start, stop = 0, width
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            parts.append(_subtrees(middle * unit, min(stop * unit, size)))
            stop = middle
        else:
            parts.append(_subtrees(start * unit, middle * unit))
            start = middle
    return Plan(tuple(reversed(parts)))


def consistency_plan(old_size: int, new_size: int) -> Plan:
    """The proof that the tree of `new_size` begins with the tree of `old_size` (RFC 9162, 2.1.4.1)."""
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of {new_size} does not grow from one of {old_size}")
    if old_size in (0, new_size):
        return Plan(())
    parts: list[tuple[NodeId, ...]] = []
    start, stop = 0, new_size
    while stop != old_size:
        middle = start + _split(stop - start)
        if old_size <= middle:
            parts.append(_subtrees(middle, stop))
            stop = middle
        else:
            parts.append(_subtrees(start, middle))
            start = middle
    if start:
        # Otherwise the old tree is itself a subtree of the new one, and its root is what the verifier has.
        parts.append(_subtrees(start, stop))
    return Plan(tuple(reversed(parts)))
