"""The tree and its proofs against the definitions of RFC 6962, as they stand there, and against pymerkle."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from pmis.ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    MissingNodeError,
    NodeId,
    consistency_plan,
    inclusion_plan,
    leaf_hash,
    node_hash,
    node_parameters,
    range_plan,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(number.to_bytes(2, "big")) for number in range(600)]


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, over leaf hashes."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], *, known: bool) -> list[bytes]:
    """RFC 6962, 2.1.2."""
    if m == len(leaves):
        return [] if known else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], known=known), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], known=False), mth(leaves[:k])]


def stored(leaves: list[bytes]) -> dict[NodeId, bytes]:
    """Every perfect subtree, as the database keeps them."""
    nodes: dict[NodeId, bytes] = {}
    level, row = 0, leaves
    while row:
        nodes.update({(level, index): node for index, node in enumerate(row)})
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
        level += 1
    return nodes


NODES = stored(LEAVES)
sizes = st.integers(0, len(LEAVES))


def test_the_published_vectors_of_rfc_6962_implementations() -> None:
    """The eight leaves and roots that Certificate Transparency's own tests use."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    tree = CompactRange()
    assert tree.root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for data in inputs:
        tree.append(leaf_hash(bytes.fromhex(data)))
        if tree.size == 1:
            assert tree.root().hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert tree.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_a_growing_tree_has_the_root_of_the_definition_and_of_pymerkle() -> None:
    tree, other = CompactRange(), InmemoryTree(algorithm="sha256")
    for size, leaf in enumerate(LEAVES[:260], start=1):
        tree.append(leaf)
        other.append_entry((size - 1).to_bytes(2, "big"))
        assert tree.root() == mth(LEAVES[:size]) == other.get_root()
        assert tree.size == size


@given(sizes)
def test_a_tree_resumes_from_its_stored_subtrees(size: int) -> None:
    resumed = CompactRange(size, range_plan(size).hashes(NODES))
    assert resumed.root() == mth(LEAVES[:size])
    for leaf in LEAVES[size:]:
        resumed.append(leaf)
    assert resumed.root() == mth(LEAVES)


def test_subtrees_that_do_not_fit_the_size_are_refused() -> None:
    with pytest.raises(ValueError, match="a tree of 3 leaves has 2 perfect subtrees, not 1"):
        CompactRange(3, [EMPTY_ROOT])


@given(st.data(), st.integers(1, len(LEAVES)))
def test_inclusion_is_the_path_of_the_definition_and_is_verified(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_plan(index, size).hashes(NODES)
    assert proof == path(index, LEAVES[:size])
    root = mth(LEAVES[:size])
    assert verify_inclusion(index=index, size=size, leaf=LEAVES[index], proof=proof, root=root)


@given(st.data(), st.integers(1, 200))
def test_inclusion_agrees_with_pymerkle(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    tree = InmemoryTree(algorithm="sha256")
    tree.append_entries([number.to_bytes(2, "big") for number in range(size)])
    theirs = tree.prove_inclusion(index + 1)
    assert theirs.path[1:] == inclusion_plan(index, size).hashes(NODES)


@given(st.data(), st.integers(1, len(LEAVES)))
def test_no_other_leaf_place_size_or_proof_is_verified(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_plan(index, size).hashes(NODES)
    root = mth(LEAVES[:size])
    other = data.draw(st.integers(-1, size + 1).filter(lambda value: value != index))
    assert not verify_inclusion(index=other, size=size, leaf=LEAVES[index], proof=proof, root=root)
    assert not verify_inclusion(index=index, size=size, leaf=EMPTY_ROOT, proof=proof, root=root)
    assert not verify_inclusion(index=index, size=size, leaf=LEAVES[index], proof=[*proof, root], root=root)
    if proof:
        cut = data.draw(st.integers(0, len(proof) - 1))
        for broken in (proof[:cut] + proof[cut + 1 :], [*proof[:cut], EMPTY_ROOT, *proof[cut + 1 :]]):
            assert not verify_inclusion(index=index, size=size, leaf=LEAVES[index], proof=broken, root=root)


@given(st.data(), sizes)
def test_consistency_is_the_proof_of_the_definition_and_is_verified(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(0, new))
    proof = consistency_plan(old, new).hashes(NODES)
    assert proof == (subproof(old, LEAVES[:new], known=True) if 0 < old < new else [])
    assert verify_consistency(
        old_size=old, new_size=new, old_root=mth(LEAVES[:old]), new_root=mth(LEAVES[:new]), proof=proof
    )


@given(st.data(), st.integers(1, len(LEAVES)))
def test_no_other_history_is_consistent(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new))
    proof = consistency_plan(old, new).hashes(NODES)
    changed = data.draw(st.integers(0, old - 1))
    history = [*LEAVES[:changed], EMPTY_ROOT, *LEAVES[changed + 1 : old]]
    then, now = mth(LEAVES[:old]), mth(LEAVES[:new])

    def verified(**other: object) -> bool:
        facts = {"old_size": old, "new_size": new, "old_root": then, "new_root": now, "proof": proof, **other}
        return verify_consistency(**facts)  # pyright: ignore[reportArgumentType] - the names are above

    assert verified()
    assert not verified(old_root=mth(history))
    assert not verified(new_root=mth([*history, *LEAVES[old:new]]))
    assert not verified(proof=[*proof, then])
    assert not verified(old_size=new + 1)
    assert not verified(old_size=-1)
    if proof:
        cut = data.draw(st.integers(0, len(proof) - 1))
        assert not verified(proof=proof[:cut] + proof[cut + 1 :])
        assert not verified(proof=[*proof[:cut], EMPTY_ROOT, *proof[cut + 1 :]])
        assert not verified(proof=[])


def test_the_empty_tree_begins_every_tree_and_nothing_else() -> None:
    root = mth(LEAVES[:5])
    assert verify_consistency(old_size=0, new_size=5, old_root=EMPTY_ROOT, new_root=root, proof=[])
    assert not verify_consistency(old_size=0, new_size=5, old_root=root, new_root=root, proof=[])
    assert not verify_consistency(old_size=0, new_size=5, old_root=EMPTY_ROOT, new_root=root, proof=[root])


@given(st.data(), st.integers(1, len(LEAVES)), st.sampled_from([2, 8, 64]))
def test_a_stretch_of_leaves_is_proved_as_one_subtree(data: st.DataObject, size: int, unit: int) -> None:
    count = -(-size // unit)
    index = data.draw(st.integers(0, count - 1))
    part = mth(LEAVES[index * unit : min((index + 1) * unit, size)])
    proof = inclusion_plan(index, size, unit=unit).hashes(NODES)
    assert verify_inclusion(index=index, size=count, leaf=part, proof=proof, root=mth(LEAVES[:size]))


@settings(max_examples=50)
@given(st.integers(2, 2**50), st.data())
def test_proofs_read_a_number_of_nodes_that_grows_with_the_logarithm(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    bound = 2 * size.bit_length()
    assert len(inclusion_plan(index, size).nodes) <= bound
    assert len(consistency_plan(index, size).nodes) <= bound
    assert len(range_plan(size).nodes) <= size.bit_length()


@pytest.mark.parametrize(("index", "size"), [(5, 5), (-1, 5), (0, 0)])
def test_there_is_no_proof_for_a_leaf_outside_the_tree(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no number"):
        inclusion_plan(index, size)


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5)])
def test_a_tree_does_not_grow_backwards(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="does not grow"):
        consistency_plan(old, new)


def test_a_damaged_tree_is_named() -> None:
    with pytest.raises(MissingNodeError, match="no node 1 at level 2"):
        inclusion_plan(0, 8).hashes({node: value for node, value in NODES.items() if node != (2, 1)})


def test_nodes_are_asked_for_once_each() -> None:
    assert node_parameters([(1, 2), (0, 7), (1, 2)]) == ([0, 1], [7, 2])
