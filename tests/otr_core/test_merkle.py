"""RFC 6962: a recursive second opinion, tampering properties. The published cases are in
tests/conformance."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core import merkle
from otr_core.errors import InputError, ProofError

LEAVES = st.lists(st.binary(max_size=40), min_size=1, max_size=40)


def recursive_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962 section 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + recursive_root(leaves[:k]) + recursive_root(leaves[k:])).digest()


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_root_is_the_recursive_definition(leaves):
    assert merkle.root(leaves) == recursive_root(leaves)


@given(LEAVES, st.data())
def test_every_leaf_is_included(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.inclusion_proof(leaves, index)
    merkle.verify_inclusion(merkle.root(leaves), merkle.leaf_hash(leaves[index]), index, len(leaves), proof)


@given(LEAVES, st.data())
def test_inclusion_rejects_any_change(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof, root, leaf = merkle.inclusion_proof(leaves, index), merkle.root(leaves), merkle.leaf_hash(leaves[index])
    change = data.draw(st.sampled_from(["root", "leaf", "index", "longer", "shorter", "flipped"]))
    size = len(leaves)
    if change == "root":
        root = hashlib.sha256(root).digest()
    elif change == "leaf":
        leaf = hashlib.sha256(leaf).digest()
    elif change == "index":
        index = size + data.draw(st.integers(0, 3))
    elif change == "longer":
        proof = [*proof, leaf]
    elif change == "shorter":
        proof = proof[:-1] if proof else [leaf]
    else:
        proof = [hashlib.sha256(proof[0]).digest(), *proof[1:]] if proof else [leaf]
    with pytest.raises(ProofError):
        merkle.verify_inclusion(root, leaf, index, size, proof)


@given(LEAVES, st.data())
def test_inclusion_names_the_right_position(leaves, data):
    """A proof for one position is no proof for another, unless both hold the same content."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.inclusion_proof(leaves, index)
    args = (merkle.root(leaves), merkle.leaf_hash(leaves[index]), other, len(leaves), proof)
    if other == index:
        merkle.verify_inclusion(*args)
    elif merkle.inclusion_proof(leaves, other) != proof or leaves[index] != leaves[other]:
        with pytest.raises(ProofError):
            merkle.verify_inclusion(*args)


@given(LEAVES, st.data())
def test_every_prefix_is_consistent(leaves, data):
    size1 = data.draw(st.integers(1, len(leaves)))
    proof = merkle.consistency_proof(leaves, size1)
    merkle.verify_consistency(merkle.root(leaves[:size1]), merkle.root(leaves), size1, len(leaves), proof)


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=40, unique=True), st.data())
def test_consistency_rejects_a_rewritten_past(leaves, data):
    size1 = data.draw(st.integers(1, len(leaves) - 1))
    rewritten = [leaves[0] + b"!", *leaves[1:]]
    old, proof = merkle.root(leaves[:size1]), merkle.consistency_proof(rewritten, size1)
    with pytest.raises(ProofError):
        merkle.verify_consistency(old, merkle.root(rewritten), size1, len(leaves), proof)
    with pytest.raises(ProofError, match="proof length"):
        merkle.verify_consistency(old, merkle.root(leaves), size1, len(leaves), [*proof, old])


def test_consistency_rejects_swapped_sizes_and_false_equality():
    leaves = [b"a", b"b", b"c"]
    root2, root3 = merkle.root(leaves[:2]), merkle.root(leaves)
    with pytest.raises(ProofError, match="size1 <= size2"):
        merkle.verify_consistency(root3, root2, 3, 2, [])
    with pytest.raises(ProofError, match="root1"):
        merkle.verify_consistency(root2, root3, 3, 3, [])
    with pytest.raises(ProofError, match="0 < size1"):
        merkle.verify_consistency(merkle.root([]), root3, 0, 3, [])
    with pytest.raises(ProofError, match="proof length"):
        merkle.verify_consistency(root3, root3, 3, 3, [root2])


@pytest.mark.parametrize("bad", [b"short", "text", b"\x00" * 33])
def test_hashes_of_another_size_are_refused(bad):
    leaves = [b"a", b"b", b"c"]
    root, leaf = merkle.root(leaves), merkle.leaf_hash(b"a")
    proof = merkle.inclusion_proof(leaves, 0)
    for args in [(bad, leaf, 0, 3, proof), (root, bad, 0, 3, proof), (root, leaf, 0, 3, [bad, proof[1]])]:
        with pytest.raises(ProofError, match="expected 32 bytes"):
            merkle.verify_inclusion(*args)
    with pytest.raises(ProofError, match="expected 32 bytes"):
        merkle.verify_consistency(bad, root, 2, 3, merkle.consistency_proof(leaves, 2))


def test_proofs_are_only_made_for_what_is_there():
    for index in (-1, 3):
        with pytest.raises(InputError, match="leaf index"):
            merkle.inclusion_proof([b"a", b"b", b"c"], index)
    with pytest.raises(InputError, match="size1"):
        merkle.consistency_proof([b"a"], 2)
    with pytest.raises(InputError, match="size1"):
        merkle.consistency_proof([b"a"], 0)
