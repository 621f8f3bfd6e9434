"""The operator beside a server: what it commits, what it leaves aside, what it defends; on the embedded
chain."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from otr_core import merkle
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.profile import FILE, read_profile
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.dispute.registry import Key
from otr_core.errors import InputError, JournalError
from otr_core.poea import OnceStore, PlacedOrder
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.order import Domain
from otr_node.chain.followed import Followed
from otr_node.chain.party import run_party
from otr_node.chain.places import write_places
from otr_node.enclave import SimulatedEnclave
from otr_node.serve import serve
from otr_node.server.batches import BatchBook, BatchReader
from otr_node.server.journal import Journal, JournalReader
from otr_node.server.operating import ServingOperator
from otr_paper.devnet.attacks import LyingFisherman
from tests.helpers.networks import FISHERMAN, OPERATOR, OWN, REGISTRAR, Embedded, embedded
from tests.helpers.serving import own_order

SECRET = b"e" * 32
PROMPT = (3, 5, 7, 9)
ME = OPERATOR.address.lower()


class Served:
    """A journal as a server leaves it, and the operator beside it."""

    def __init__(self, network: Embedded) -> None:
        self.network, self.state, self.now = network, network.folder / "state", 0.0
        self.journal = Journal(self.state)
        self.enclave = SimulatedEnclave(SECRET, OWN.id, b"n" * 32, network.node.time)
        self.domain = network.court(OPERATOR).domain
        self.served = OnceStore()

    def answer(self, enclave: SimulatedEnclave | None = None, **about: Any) -> tuple[PlacedOrder, ReceiptFile]:
        """One more answer in the journal."""
        enclave = enclave or self.enclave
        about = {"domain": self.domain, **about}
        placed = own_order(OWN.id, PROMPT, **about)
        file, _ = serve(enclave, OWN.model, placed.order, placed.query, served=self.served)
        assert self.journal.begin(placed.order.id, placed.sent, b"b" * 32).result()
        self.journal.add_receipt(placed.order.id, file.dump()).result()
        return placed, file

    def register(self, enclave: SimulatedEnclave | None = None) -> None:
        keys = (enclave or self.enclave).keys
        self.network.court(REGISTRAR).register_key(keys.digest, Key(ME, OWN.id, keys.address))

    def operator(self, kind: Callable[..., Any] = ServingOperator, **about: Any) -> Any:
        """One that has just been started."""
        about = {"secret": SECRET, "every_s": 60.0, "most": 8, "clock": lambda: self.now, **about}
        at, say = self.network.court(OPERATOR), self.network.report
        journal, book = JournalReader(self.state), self.book()
        return kind(at, ME, {OWN.id: OWN}, self.state, say, journal=journal, book=book, **about)

    def book(self) -> BatchBook:
        return BatchBook(self.state, ME, self.domain)

    def demand(self, file: ReceiptFile) -> None:
        """As any client may, at any time."""
        bond = self.network.stands.terms.bond_wei
        court = self.network.court(FISHERMAN)
        court.demand(None, FISHERMAN.address.lower(), ME, file.receipt, file.signature, value=bond)

    def batches(self) -> list[int]:
        """Sizes of what stands at the court."""
        followed = Followed(self.network.court(FISHERMAN), {})
        followed.read()
        return [each.size for each in followed.court.batches.values()]


@pytest.fixture(scope="module")
def terms(project) -> Terms:
    return replace(read_profile(project.data / FILE).court, arity_bits=2)


@pytest.fixture
def served(terms: Terms, tmp_path: Path) -> Iterator[Served]:
    found = Served(embedded(terms, tmp_path))
    yield found
    found.journal.close()


def act(operator: ServingOperator, steps: int = 40) -> None:
    for _ in range(steps):
        if not operator.step():
            return
    raise AssertionError("no end")


def killed(operator: ServingOperator) -> None:
    """As a process that is gone: its locks are, too."""
    operator.book.close()
    operator.journal.close()


def check_place(served: Served, file: ReceiptFile) -> None:
    with BatchReader(served.state) as book:
        place = book.place(file.receipt.order_id)
    followed = Followed(served.network.court(FISHERMAN), {})
    followed.read()
    assert place is not None
    held = followed.court.batches[place.batch]
    leaf = merkle.leaf_hash(receipt_leaf(served.domain, file.receipt, file.signature))
    merkle.verify_inclusion(held.root, leaf, place.at, held.size, place.path)


def test_all_that_was_answered_is_committed_on_schedule_and_each_place_holds(served):
    files = [served.answer()[1], served.answer(seal_to=served.enclave.keys.hpke)[1]]
    served.register()
    operator = served.operator()
    act(operator)
    assert served.batches() == [2]
    files += [served.answer()[1], served.answer(temperature_milli=900, seed=7)[1]]
    served.now = 59.0
    act(operator)
    assert served.batches() == [2]  # not due yet
    served.now = 60.0
    act(operator)
    assert served.batches() == [2, 2]
    for file in files:
        check_place(served, file)
    served.now = 120.0
    act(operator)
    assert served.batches() == [2, 2]  # nothing new: no batch


def test_so_many_as_a_batch_holds_are_not_waited_for(served):
    served.register()
    served.answer()
    operator = served.operator(most=3)
    act(operator)
    for _ in range(7):
        served.answer()
    act(operator)
    assert served.batches() == [1, 3, 3]


@pytest.mark.parametrize("after", [False, True], ids=["before it is sent", "after it stands"])
def test_an_operator_that_is_killed_commits_nothing_twice(served, after):
    served.register()
    files = [served.answer()[1] for _ in range(3)]

    class KilledError(Exception):
        pass

    operator = served.operator()
    made = operator.call

    def dies(name: str, *args: Any, **more: Any) -> bool:
        if after:
            made(name, *args, **more)
        raise KilledError

    operator.call = dies
    with pytest.raises(KilledError):
        act(operator)
    killed(operator)
    files.append(served.answer()[1])
    again = served.operator()
    act(again)
    assert served.batches() == [3, 1]
    for file in files:
        check_place(served, file)


@pytest.mark.parametrize("again", [False, True], ids=["in one life", "after a kill"])
def test_receipts_wait_for_their_key_and_hold_up_no_other(served, again):
    files = [served.answer()[1], served.answer()[1]]
    other = SimulatedEnclave(b"o" * 32, OWN.id, b"n" * 32, served.network.node.time)
    served.register(other)
    behind = served.answer(other)[1]
    operator = served.operator()
    act(operator)
    assert served.batches() == [1]
    check_place(served, behind)
    assert [each["event"] for each in served.network.events] == ["waiting", "committed"]  # one line for both
    assert served.network.events[0]["about"] == files[0].receipt.key_id.hex()
    with BatchReader(served.state) as book:
        assert [book.place(each.receipt.order_id) for each in files] == [None, None]
        assert book.waiting == 2
    if again:
        killed(operator)
        operator = served.operator()
    late = served.answer(other)[1]
    served.register()
    served.now = 60.0
    act(operator)
    assert served.batches() == [1, 3]
    for each in (*files, behind, late):
        check_place(served, each)
    with BatchReader(served.state) as book:
        assert book.waiting == 0


def test_receipts_that_have_waited_for_their_key_do_not_wait_for_the_schedule_too(served):
    served.answer()
    operator = served.operator()
    act(operator)
    assert served.batches() == []
    served.register()
    act(operator)
    assert served.batches() == [1]


def test_so_many_that_wait_as_a_batch_holds_hold_up_no_other(served):
    """What waits is not counted among what is new."""
    stranger = SimulatedEnclave(b"o" * 32, OWN.id, b"n" * 32, served.network.node.time)
    waiting = [served.answer(stranger)[1] for _ in range(5)]
    served.register()
    file = served.answer()[1]
    operator = served.operator(most=2)
    act(operator)
    assert served.batches() == [1]
    check_place(served, file)
    served.register(stranger)
    for _ in range(3):
        served.now += 60.0
        act(operator)
    assert served.batches() == [1, 2, 2, 1]
    for each in waiting:
        check_place(served, each)


def test_a_key_that_the_chain_forgets_before_its_batch_is_sent_is_waited_for(served):
    """Blocks that are taken back may take a registration with them: what was planned would convict."""
    served.register()
    file = served.answer()[1]
    operator = served.operator()
    operator.__class__ = Held
    act(operator)
    assert [each.size for each in operator.book.pending()] == [1]
    operator.__class__ = Forgetful
    served.now = 60.0
    act(operator)
    assert served.batches() == []
    assert operator.book.waiting == 1
    assert operator.book.last_journalled == 1
    operator.__class__ = ServingOperator
    served.now = 120.0
    act(operator)
    assert served.batches() == [1]
    check_place(served, file)


def test_an_operator_whose_disk_is_full_waits_and_sends_nothing(served):
    """The book of batches cannot grow: that ends nobody, and is said once."""
    served.register()
    file = served.answer()[1]
    operator, without, looks = served.operator(), resource.getrlimit(resource.RLIMIT_FSIZE), []

    def twice(acted: bool) -> bool:
        looks.append(acted)
        return len(looks) == 2

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, without[1]))
    try:
        run_party(operator, until=twice, poll_s=0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, without)
    assert looks == [False, False]
    assert [(each["event"], each["about"]) for each in served.network.events] == [("waiting", "disk")]
    assert served.batches() == []
    act(operator)
    assert served.batches() == [1]
    check_place(served, file)


def test_a_book_from_before_receipts_could_wait_is_gone_on_with(served):
    served.register()
    file = served.answer()[1]
    operator = served.operator()
    act(operator)
    killed(operator)
    with sqlite3.connect(served.state / "batches.sqlite") as base:
        base.executescript("DROP TABLE waiting; PRAGMA user_version=1;")
    with pytest.raises(InputError, match="version 1, expected 2"):
        BatchReader(served.state)
    again = served.operator()
    assert again.book.waiting == 0
    check_place(served, file)


def _other_court(served: Served) -> None:
    served.answer(domain=Domain(served.domain.chain_id, b"\x07" * 20))


def _revoked(served: Served) -> None:
    enclave = SimulatedEnclave(b"r" * 32, OWN.id, b"n" * 32, served.network.node.time)
    served.register(enclave)
    served.answer(enclave)
    served.network.court(REGISTRAR).call(None, REGISTRAR.address.lower(), "revoke", enclave.keys.digest)
    served.network.later(3600)


def _of_another(served: Served) -> None:
    enclave = SimulatedEnclave(b"o" * 32, OWN.id, b"n" * 32, served.network.node.time)
    served.network.court(REGISTRAR).register_key(
        enclave.keys.digest, Key(FISHERMAN.address.lower(), OWN.id, enclave.keys.address)
    )
    served.answer(enclave)


@pytest.mark.parametrize("fault", [_other_court, _revoked, _of_another])
def test_a_receipt_that_would_convict_is_in_no_batch_and_holds_up_none(served, fault: Callable[[Served], None]):
    served.register()
    first = served.answer()[1]
    fault(served)
    last = served.answer()[1]
    operator = served.operator()
    act(operator)
    assert served.batches() == [2]
    for file in (first, last):
        check_place(served, file)
    assert [each["event"] for each in served.network.events].count("left aside") == 1
    known = operator.book.last_journalled
    _other_court(served)
    served.now = 60.0
    act(operator)
    assert served.batches() == [2]
    assert operator.book.last_journalled == known + 1  # judged once, though it is in no batch


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_a_false_challenge_is_answered_from_the_journal_while_serving_goes_on(served, sealed):
    served.register()
    seal_to = served.enclave.keys.hpke if sealed else None
    placed, file = served.answer(seal_to=seal_to, temperature_milli=800, seed=3)
    operator = served.operator()
    act(operator)
    folder = served.network.folder
    (folder / "own.order.json").write_bytes(placed.dump())
    (folder / "own.receipt.json").write_bytes(file.dump())
    with BatchReader(served.state) as book:
        place = book.place(file.receipt.order_id)
    write_places(folder, ["own"], place.batch, [receipt_leaf(served.domain, file.receipt, file.signature)])
    base = served.network.fisherman()
    about = base.chain, base.me, base.models, base.folder, served.network.report, base.secret, base.budget_wei
    liar = LyingFisherman(*about, base.store)
    late: list[Any] = []
    served.network.play(liar, operator, each_round=lambda number: number == 3 and late.append(served.answer()[1]))
    assert served.network.status() == [ChallengeStatus.LOST]
    served.now = 60.0
    act(operator)
    check_place(served, late[0])  # what was answered meanwhile is committed once the game is over


def test_a_demanded_receipt_is_shown_where_it_stands(served):
    served.register()
    _, file = served.answer()
    operator = served.operator()
    act(operator)
    served.demand(file)
    act(operator)
    events = [each["event"] for each in served.network.events]
    assert [each for each in events if each in ("show", "publish")] == ["show"]
    assert served.network.status() == [ChallengeStatus.LOST]


def places_of(served: Served, file: ReceiptFile, others: Sequence[ReceiptFile]) -> int:
    """In how many batches of the court a receipt lies; two of them convict."""
    followed = Followed(served.network.court(FISHERMAN), {})
    followed.read()
    leaves = [receipt_leaf(served.domain, each.receipt, each.signature) for each in (file, *others)]
    roots = {
        merkle.root(list(some)) for n in range(len(leaves)) for some in permutations(leaves, n + 1) if leaves[0] in some
    }
    return sum(each.root in roots for each in followed.court.batches.values())


@pytest.mark.parametrize("when", ["before it is planned", "planned, while a game holds it up", "twice", "both"])
def test_whoever_demands_early_does_not_get_a_receipt_into_two_batches(served, when):
    """A client asks for an answer and demands its receipt at once: it is published, and must not be
    committed again, which would convict."""
    served.register()
    first = served.answer()[1]
    operator = served.operator()
    act(operator)
    files = [served.answer()[1] for _ in range(3)]
    if when != "before it is planned" and when != "twice":
        served.now = 60.0
        sent, operator.call = (
            operator.call,
            lambda name, *args, **more: name != "commit_batch" and sent(name, *args, **more),
        )
        while operator.step():
            pass
        assert [each.size for each in operator.book.pending()] == [3]
        operator.call = sent
        operator.__class__ = Held
    for _ in range(2 if when in ("twice", "both") else 1):
        served.demand(files[1])
    act(operator)
    operator.__class__ = ServingOperator
    served.now = 120.0
    act(operator)
    for at, file in enumerate(files):
        check_place(served, file)
        assert places_of(served, file, [first, *files[:at], *files[at + 1 :]]) == 1
    assert set(served.network.status()) == {ChallengeStatus.MOOT}
    assert sorted(served.batches()) == [1, 1, 2]


class Forgetful(ServingOperator):
    """Sees a court that knows no key any more."""

    def read(self) -> None:
        super().read()
        self.followed.court = replace(self.followed.court, keys={})

    def act(self) -> bool:
        done = super().act()
        self.followed = Followed(self.chain, {own: model.registered for own, model in self.models.items()})
        return done


class Held(ServingOperator):
    """As while a game against it is open: the court takes no batch."""

    _frozen = True


def test_a_key_that_is_revoked_before_its_batch_is_sent_convicts_nobody(served):
    enclave = SimulatedEnclave(b"r" * 32, OWN.id, b"n" * 32, served.network.node.time)
    served.register()
    served.register(enclave)
    good, bad = served.answer()[1], served.answer(enclave)[1]
    operator = served.operator()
    operator.__class__ = Held
    act(operator)
    assert [each.size for each in operator.book.pending()] == [2]
    served.network.court(REGISTRAR).call(None, REGISTRAR.address.lower(), "revoke", enclave.keys.digest)
    served.network.later(3600)
    operator.__class__ = ServingOperator
    act(operator)
    assert served.batches() == [1]
    check_place(served, good)
    with BatchReader(served.state) as book:
        assert book.place(bad.receipt.order_id) is None


def test_no_batch_is_tried_while_a_game_is_open(served):
    """The court would refuse it, block after block."""
    served.register()
    placed, file = served.answer()
    operator = served.operator()
    act(operator)
    with BatchReader(served.state) as book:
        place = book.place(file.receipt.order_id)
    court, me = served.network.court(FISHERMAN), FISHERMAN.address.lower()
    bond, salt = served.network.stands.terms.bond_wei, b"s" * 32
    court.call(None, me, "challenge", challenge_hash(me, place.batch, 0, 0, salt), value=bond)
    court.open(None, me, 1, batch=place.batch, index=0, token=0, salt=salt, order=placed.order,
               receipt=file.receipt, signature=file.signature, path=place.path)  # fmt: skip
    served.answer()
    served.now = 60.0
    for _ in range(8):
        operator.step()
    assert served.network.status() == [ChallengeStatus.OPEN]
    assert "refused" not in [each["event"] for each in served.network.events]
    assert served.batches() == [1]


@pytest.mark.parametrize("planned", [False, True], ids=["not planned", "planned before"])
def test_a_convicted_operator_says_so_once_and_tries_no_batch(served, planned):
    served.register()
    served.demand(served.answer()[1])
    operator = served.operator(every_s=0.0)
    if planned:
        operator.call = lambda *about, **more: False  # as a node that takes nothing just now
        act(operator)
        del operator.call
    network, court = served.network, served.network.court(FISHERMAN)
    network.later(network.stands.terms.duty_s + 10)
    court.call(None, FISHERMAN.address.lower(), "lapse", 1)
    served.answer()
    for _ in range(3):
        act(operator)
    events = [each["event"] for each in network.events]
    assert (events.count("convicted"), events.count("refused")) == (1, 0)
    assert bool(list(operator.book.pending())) is planned
    assert served.batches() == []


def test_blocks_that_are_taken_back_put_every_batch_in_doubt(served):
    served.register()
    file = served.answer()[1]
    operator = served.operator()
    act(operator)
    check_place(served, file)
    operator.forget()
    with BatchReader(served.state) as book:
        assert book.place(file.receipt.order_id) is None
    act(operator)
    assert served.batches() == [1]
    check_place(served, file)


def test_a_book_has_one_operator_and_is_written_whole(served, monkeypatch):
    served.register()
    served.answer()
    served.answer()
    operator = served.operator()
    with pytest.raises(InputError, match="another operator at work"):
        served.book()
    calls = []

    def fails(hashed: bytes) -> bytes:
        calls.append(hashed)
        if len(calls) == 2:
            raise JournalError("a disk that is full")
        return os.urandom(32)

    with monkeypatch.context() as patched:
        patched.setattr("otr_node.server.batches.merkle.leaf_hash", fails)
        with pytest.raises(JournalError):
            operator.step()
    assert (operator.book.last_journalled, operator.book.pending()) == (0, [])
    act(operator)
    assert served.batches() == [2]


def test_another_book_is_refused(served):
    folder = served.state
    with pytest.raises(InputError, match="no usable book"):
        BatchReader(folder)
    served.book().close()
    for who, domain in ((FISHERMAN.address.lower(), served.domain), (ME, Domain(served.domain.chain_id, b"c" * 20))):
        with pytest.raises(InputError, match="another account or court"):
            BatchBook(folder, who, domain)
    with sqlite3.connect(folder / "batches.sqlite") as base:
        base.execute("PRAGMA user_version=9")
    with pytest.raises(InputError, match="version 9"):
        BatchReader(folder)
    with pytest.raises(InputError, match="version 9"):
        served.book()


def test_an_answer_that_is_not_in_the_journal_is_not_defended(served):
    placed, file = served.answer()
    operator = served.operator()
    assert operator.honest_player(placed.order, file.receipt) is not None
    assert operator.honest_player(placed.order, replace(file.receipt, answer_tokens=1)) is None
    assert operator.honest_player(own_order(OWN.id, PROMPT).order, load_receipt_file(file.dump()).receipt) is None
