"""Batches of a folder: no receipt is ever in two of them, whatever happens between two commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.profile import FILE, read_profile
from otr_core.dispute.records import Batch, ChallengeStatus
from otr_core.dispute.registry import Key
from otr_core.poea import OnceStore, load_receipt_file
from otr_node.chain.answers import answers_in
from otr_node.chain.committing import batches_of
from otr_node.chain.followed import Followed
from otr_node.chain.places import load_place, write_places
from otr_node.enclave import SimulatedEnclave
from otr_node.serve import serve
from tests.helpers.networks import FISHERMAN, OPERATOR, OWN, REGISTRAR, Embedded, embedded
from tests.helpers.serving import own_order

ME = OPERATOR.address.lower()


@pytest.fixture
def network(project, tmp_path) -> Embedded:
    made = embedded(replace(read_profile(project.data / FILE).court, arity_bits=2), tmp_path)
    keys = enclave(made).keys
    made.court(REGISTRAR).register_key(keys.digest, Key(ME, OWN.id, keys.address))
    for name in "abc":
        answer(made, name)
    return made


def enclave(network: Embedded) -> SimulatedEnclave:
    return SimulatedEnclave(b"e" * 32, OWN.id, b"n" * 32, network.node.time)


def answer(network: Embedded, name: str) -> None:
    placed = own_order(OWN.id, (3, 5, 7), 2, domain=network.court(OPERATOR).domain)
    file, _ = serve(enclave(network), OWN.model, placed.order, placed.query, served=OnceStore())
    (network.folder / f"{name}.order.json").write_bytes(placed.dump())
    (network.folder / f"{name}.receipt.json").write_bytes(file.dump())


def planned(network: Embedded) -> list[Sequence[bytes]]:
    followed = Followed(network.court(FISHERMAN), {})
    followed.read()
    answers = answers_in(network.folder, lambda name, error: None)
    return list(batches_of(network.folder, answers, network.court(OPERATOR).domain, ME, followed.court.batches))


def send(network: Embedded, batches: list[Sequence[bytes]]) -> None:
    for leaves in batches:
        network.court(OPERATOR).call(None, ME, "commit_batch", merkle.root(leaves), len(leaves))


def leaf_of(network: Embedded, name: str) -> bytes:
    file = load_receipt_file((network.folder / f"{name}.receipt.json").read_bytes())
    return receipt_leaf(network.court(OPERATOR).domain, file.receipt, file.signature)


def copied(folder: Path, name: str, other: str, *kinds: str) -> None:
    for kind in kinds or ("order", "receipt"):
        (folder / f"{other}.{kind}.json").write_bytes((folder / f"{name}.{kind}.json").read_bytes())


def check_all(network: Embedded, sizes: list[int]) -> None:
    """Batches of these sizes, and every answer where its place says."""
    followed = Followed(network.court(FISHERMAN), {})
    followed.read()
    batches: dict[bytes, Batch] = dict(followed.court.batches)
    assert sorted(each.size for each in batches.values()) == sorted(sizes)
    for path in network.folder.glob("*.receipt.json"):
        name = path.name.removesuffix(".receipt.json")
        place = load_place((network.folder / f"{name}.place.json").read_bytes())
        held, leaf = batches[place.batch], merkle.leaf_hash(leaf_of(network, name))
        merkle.verify_inclusion(held.root, leaf, place.at, held.size, place.path)
    assert planned(network) == []


def demand(network: Embedded, name: str, *, answered: bool = True) -> None:
    file = load_receipt_file((network.folder / f"{name}.receipt.json").read_bytes())
    court, bond = network.court(FISHERMAN), network.stands.terms.bond_wei
    court.demand(None, FISHERMAN.address.lower(), ME, file.receipt, file.signature, value=bond)
    operator = network.defender(None)
    while answered and operator.step():
        pass


def test_one_batch_of_all_and_nothing_after_it(network):
    send(network, planned(network))
    check_all(network, [3])


def test_what_was_planned_and_not_sent_is_sent_as_it_was_beside_what_is_new(network):
    (first,) = planned(network)  # and the operator is killed
    copied(network.folder, "a", "again")  # the same receipt under another name
    copied(network.folder, "c", "0", "order", "receipt", "place")  # and under one that comes first
    answer(network, "late")
    assert planned(network) == [first, [leaf_of(network, "late")]]
    send(network, planned(network))
    check_all(network, [1, 3])


def test_a_receipt_under_two_names_is_one_leaf(network):
    copied(network.folder, "a", "x")
    (leaves,) = planned(network)
    assert len(leaves) == 3
    send(network, [leaves])
    copied(network.folder, "b", "y")
    assert planned(network) == []
    check_all(network, [3])


def test_a_place_on_chain_counts_before_one_that_is_nowhere(network):
    """Whatever is in the file of another name of the same receipt."""
    send(network, planned(network))
    copied(network.folder, "a", "0")
    write_places(network.folder, ["0"], b"x" * 32, [leaf_of(network, "a")])
    assert planned(network) == []
    check_all(network, [3])


def test_what_was_published_on_demand_is_not_committed_again(network):
    demand(network, "b")
    (leaves,) = planned(network)
    assert leaf_of(network, "b") not in leaves
    send(network, [leaves])
    check_all(network, [1, 2])


def test_what_was_planned_and_then_published_is_planned_anew(network):
    (first,) = planned(network)
    demand(network, "b")
    (leaves,) = planned(network)
    assert set(leaves) == set(first) - {leaf_of(network, "b")}
    send(network, [leaves])
    check_all(network, [1, 2])


def test_a_plan_of_which_a_part_is_gone_is_made_anew(network):
    planned(network)
    for kind in ("order", "receipt", "place"):
        (network.folder / f"a.{kind}.json").unlink()
    (leaves,) = planned(network)
    assert set(leaves) == {leaf_of(network, "b"), leaf_of(network, "c")}
    send(network, [leaves])
    check_all(network, [2])


def test_a_receipt_that_is_demanded_twice_convicts_nobody(network):
    """The second demand is met by the place of what was published for the first."""
    demand(network, "a", answered=False)
    demand(network, "a")
    assert network.status() == [ChallengeStatus.MOOT, ChallengeStatus.MOOT]
    demand(network, "a")
    assert network.status()[-1] == ChallengeStatus.LOST  # it was there before
    send(network, planned(network))
    check_all(network, [1, 2])
    assert load_place((network.folder / "a.place.json").read_bytes()).batch == batch_id(
        ME, merkle.leaf_hash(leaf_of(network, "a"))
    )
