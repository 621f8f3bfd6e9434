"""A spot check as a value: the honest way through it, and everybody who tries another one.

The operator of these tests is free: it holds the attested key and the account's, and signs whatever
it likes.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.duties import is_drawn, spot_subject
from otr_core.dispute.records import SLOT_S
from otr_core.encoding import canonical_json
from otr_core.errors import BeaconError, InputError, OtrError, ParameterError, ReceiptError, SpotCheckError
from otr_core.lane.sampling import Decoding
from otr_core.poea.order import Domain
from otr_core.poea.receipt import sign_receipt
from otr_core.spotcheck import beacon
from otr_core.spotcheck.opening import load_check
from otr_core.spotcheck.proof.verify import HEADER
from otr_core.spotcheck.protocol import Stage, committed_judge, proof_body
from otr_core.spotcheck.rows import bound_root
from otr_core.spotcheck.selection import SHARES
from otr_core.spotcheck.wire import CheckTerms, answers_json, read_answers, read_message
from otr_node import duty
from otr_node.enclave import SimulatedEnclave
from otr_node.portable import load_portable
from otr_paper.labs.lab_beacon import LabBeacon
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny
from tests.helpers.answer_proofs import provable, signed_lie
from tests.helpers.drawn_checks import ALLOW, BEACON, KEY, OTHER_KEY, TIME, Drawn, agreed

OPERATOR = "0x" + duty.key_address(KEY).hex()


def refused(move, *arguments: Any, kind: type[OtrError] = SpotCheckError, **named: Any) -> str:
    with pytest.raises(kind) as failure:
        move(*arguments, **named)
    return getattr(failure.value, "check", "")


def later(check, seconds: int = 1) -> int:
    return check.due + seconds


# --- the honest way


def test_units_from_receipt_to_acceptance(drawn):
    assert drawn.included.stage is Stage.INCLUDED
    assert drawn.placed.stage is Stage.PLACED
    assert drawn.committed.stage is Stage.COMMITTED
    assert drawn.due.stage is Stage.DUE
    found = drawn.due.answer(later(drawn.due), drawn.units, drawn.judge(drawn.due))
    assert (found.stage, found.refused_by) == (Stage.ACCEPTED, "")


def test_a_proof_from_receipt_to_acceptance(drawn, honest_proof):
    check, answer = drawn.whole, drawn.answer
    message, proof = duty.proof_message(check, answer.model, answer.said, answer.response, KEY, lambda line: None)
    assert proof == honest_proof
    assert check.answer(later(check), message, drawn.judge(check), proof).stage is Stage.ACCEPTED


@pytest.fixture(scope="module")
def under(drawn, tiny_commitment):
    """A check whose terms name a commitment to the model, drawn."""
    check = drawn.open(agreed(demand="proof", circuits=tiny_commitment.commitment.digest))
    return check.draw(BEACON.sign(check.round))


def test_terms_that_name_a_commitment_are_judged_without_weights(drawn, under, tiny_commitment, committed_proof):
    answer, committed = drawn.answer, tiny_commitment.commitment
    said = (answer.model, answer.said, answer.response, KEY, lambda line: None)
    message, proof = duty.proof_message(under, *said, tiny_commitment)
    assert proof == committed_proof
    judge = committed_judge(committed, answer.said, answer.response, answer.file.order)
    assert under.answer(later(under), message, judge, proof).stage is Stage.ACCEPTED
    # Who holds another commitment, or the model, or no terms that name one, judges nothing.
    for other in (
        committed_judge(replace(committed, root=bytes(32)), answer.said, answer.response),
        drawn.judge(under),
    ):
        assert refused(under.answer, later(under), message, other, proof) == "held circuits"
    assert refused(drawn.whole.answer, later(drawn.whole), message, judge, proof) == "held circuits"
    wrong = committed_judge(replace(committed, model_id=bytes(32)), answer.said, answer.response)
    assert refused(under.answer, later(under), message, wrong, proof) == "held model"
    # What an operator signs is about terms with this commitment: a message for other terms is none here.
    assert under.duty != drawn.whole.duty
    whole, held = duty.proof_message(drawn.whole, *said)
    assert refused(under.answer, later(under), whole, judge, held) == "duty"


def test_an_operator_proves_under_the_commitment_that_the_terms_name(drawn, under, tiny_commitment, honest_proof):
    answer = drawn.answer
    said = (answer.model, answer.said, answer.response, KEY, lambda line: None)
    other = type("Kept", (), {"commitment": replace(tiny_commitment.commitment, root=bytes(32))})()
    for check, kept in ((under, None), (under, other), (drawn.whole, tiny_commitment)):
        assert refused(duty.proof_message, check, *said, kept) == "commitment"
    judge = committed_judge(tiny_commitment.commitment, answer.said, answer.response)
    message = duty.sign_message(KEY, under.duty, "proof", proof_body(honest_proof))
    found = under.answer(later(under), message, judge, honest_proof)
    assert (found.stage, found.refused_by) == (Stage.CONVICTED, "header")
    mine = replace(answer.file.order, job_id=bytes(32))
    judge = committed_judge(tiny_commitment.commitment, answer.said, answer.response, mine)
    message, proof = duty.proof_message(under, *said, tiny_commitment)
    assert under.answer(later(under), message, judge, proof).refused_by == "order"


def test_the_last_second_counts_and_the_next_does_not(drawn):
    last = drawn.due.until
    judge = drawn.judge(drawn.due)
    assert drawn.due.answer(last, drawn.units, judge).stage is Stage.ACCEPTED
    assert drawn.due.answer(last + 1, drawn.units, judge).refused_by == "late"
    assert refused(drawn.due.lapse, last) == "early"
    assert drawn.due.lapse(last + 1).refused_by == "silence"
    rows = duty.rows_message(drawn.placed, drawn.who, KEY)
    assert drawn.placed.commit_rows(drawn.placed.until, rows).stage is Stage.COMMITTED
    assert drawn.placed.commit_rows(drawn.placed.until + 1, rows).refused_by == "late"
    assert refused(drawn.placed.lapse, drawn.placed.until) == "early"
    assert drawn.placed.lapse(drawn.placed.until + 1).refused_by == "silence"


def test_a_check_reads_again_as_it_was_written(drawn, honest_proof):
    late = drawn.placed.commit_rows(drawn.placed.until + 1, duty.rows_message(drawn.placed, drawn.who, KEY))
    silent = drawn.due.lapse(drawn.due.until + 1)
    for check in (drawn.included, drawn.placed, drawn.committed, drawn.due, late, silent, drawn.whole):
        assert load_check(check.dump(), policy=ALLOW) == check
        assert load_check(check.dump(), policy=ALLOW).dump() == check.dump()


# --- when a round draws


@given(at=st.integers(0, 10**6), margin=st.integers(SLOT_S, 100))
def test_more_than_a_slot_lies_between_a_batch_and_the_round_that_draws_it(at, margin):
    number = beacon.round_after(BEACON.chain, BEACON.genesis_s + at, margin_s=margin)
    due = beacon.round_time(BEACON.chain, number)
    assert BEACON.genesis_s + at + margin < due <= BEACON.genesis_s + at + margin + BEACON.period_s


def test_terms_without_a_margin_are_none(drawn):
    for changes in ({"margin_s": SLOT_S - 1}, {"margin_s": 0}, {"spot_bps": 10_001}, {"demand": "both"}, {"units": 0},
                    {"shares": {}}, {"shares": {"head": 1}}, {"shares": {"query": 0}}, {"rows_s": 0}, {"answer_s": 0},
                    {"shares": {"query": True}}, {"units": 1025}, {"beacon": BEACON.chain | {"schemeID": "chained"}},
                    {"beacon": BEACON.chain | {"period": 0}}, {"demand": "proof", "units": 1},
                    {"demand": "proof", "shares": {"query": 1}}):  # fmt: skip
        assert refused(agreed, kind=ParameterError, **changes) == ""
    whole = {"demand": "proof"}
    for name, changes in (
        ("demand", {"demand": "both", "units": 0, "shares": {}}),
        ("rows_s", {"rows_s": 2**20}),
        ("answer_s", {"answer_s": 2**20}),
        ("margin_s", {"margin_s": 2**20}),
        ("shares", {"shares": {"query": 2**20}}),
        ("shares", {"shares": {"query": 1.0}}),
        ("shares", {"shares": {}}),
        ("shares", whole | {"shares": {"query": 1}}),
        ("units", whole | {"units": 1}),
        ("beacon", {"beacon": BEACON.chain | {"period": True}}),
        ("beacon", {"beacon": BEACON.chain | {"period": 3.0}}),
        ("beacon", {"beacon": BEACON.chain | {"genesis_time": 2**40}}),
    ):  # one thing wrong each, and refused by its own name
        with pytest.raises(ParameterError) as caught:
            agreed(**changes)
        assert caught.value.field == name, changes
    for beacon_info in (BEACON.chain | {"more": 1}, BEACON.chain | {"public_key": "00"}):
        refused(agreed, beacon=beacon_info, kind=InputError)


def test_a_round_that_is_not_the_beacons_or_not_the_one_draws_nothing(drawn):
    check, number = drawn.included, drawn.included.round
    for signature in (BEACON.sign(number - 1), BEACON.sign(number + 1), LabBeacon(secret=99).sign(number), bytes(48)):
        assert refused(check.draw, signature, kind=BeaconError).startswith("signature")
    assert number == beacon.round_after(BEACON.chain, TIME, margin_s=12)
    again = drawn.committed
    assert again.round == beacon.round_after(BEACON.chain, again.rows_at, margin_s=12) > number
    refused(again.draw_units, BEACON.sign(number), kind=BeaconError)


def test_what_is_not_drawn_is_spared_and_owes_nothing(drawn):
    check = drawn.open(agreed(spot_bps=0))
    spared = check.draw(BEACON.sign(check.round))
    assert spared.stage is Stage.SPARED
    for move in (lambda: spared.lapse(10**9), lambda: spared.answer(10**9, drawn.units, drawn.judge(spared))):
        assert refused(move) == "stage"


def test_what_a_round_draws_is_the_courts_own_rule(drawn):
    """One batch, many places in it, a chance of a half: each drawn as ``is_drawn`` has it."""
    check, found = drawn.open(agreed(spot_bps=5000)), []
    randomness = drawn.placed.randomness
    for index in range(6):
        one = replace(check, index=index)
        found.append(one.draw(BEACON.sign(check.round)).stage is Stage.PLACED)
        assert found[-1] == is_drawn(randomness, spot_subject(batch_id(OPERATOR, one.batch.root), index), 5000)
    assert {True, False} == set(found)


def test_shares_keep_their_order_through_a_document(drawn):
    terms = agreed(shares=dict(reversed(list(SHARES.items()))))
    read = CheckTerms.from_json(json.loads(canonical_json(terms.to_json())))
    assert [*read.shares] == [*terms.shares] == [*SHARES]
    assert read == terms


# --- moves out of turn


def test_no_move_is_made_out_of_turn(drawn):
    rows, judge = duty.rows_message(drawn.placed, drawn.who, KEY), drawn.judge(drawn.due)
    ended = drawn.due.lapse(drawn.due.until + 1)
    moves = {
        "draw": lambda check: check.draw(BEACON.sign(drawn.included.round)),
        "rows": lambda check: check.commit_rows(10**9, rows),
        "units": lambda check: check.draw_units(BEACON.sign(drawn.committed.round)),
        "answer": lambda check: check.answer(10**9, drawn.units, judge),
        "lapse": lambda check: check.lapse(10**9),
        "round": lambda check: check.round,
    }
    allowed = (
        (drawn.included, {"draw", "round"}),
        (drawn.placed, {"rows", "lapse"}),
        (drawn.committed, {"units", "round"}),
        (drawn.due, {"answer", "lapse"}),
        (ended, set()),
    )
    for check, own in allowed:
        for name, move in moves.items():
            if name not in own:
                assert refused(move, check) == "stage", (check.stage, name)
    assert refused(duty.rows_message, drawn.due, drawn.who, KEY) == "stage"
    assert refused(duty.units_message, drawn.placed, drawn.who, KEY) == "stage"


def test_rows_committed_again_after_the_draw_are_refused(drawn):
    place = (drawn.due.position, drawn.due.layer)
    rows = drawn.who.rows(*place)
    other = drawn.who.commit(rows | {"mlp.product": rows["mlp.product"] + 1}, *place)
    again = duty.sign_message(KEY, drawn.due.duty, "rows", other.root.hex())
    assert refused(drawn.due.commit_rows, later(drawn.due), again) == "stage"
    assert refused(drawn.committed.commit_rows, later(drawn.due), again) == "stage"
    units = [drawn.due.challenge(number).unit(drawn.who.layout) for number in range(4)]
    opened = tuple(drawn.who.open_unit(unit, other) for unit in units)
    message = duty.sign_message(KEY, drawn.due.duty, "units", answers_json(opened))
    assert drawn.due.answer(later(drawn.due), message, drawn.judge(drawn.due)).refused_by == "rows"


def test_nothing_is_taken_before_its_round_was_due(drawn):
    rows = duty.rows_message(drawn.placed, drawn.who, KEY)
    assert refused(drawn.placed.commit_rows, drawn.placed.due - 1, rows) == "early"
    assert refused(drawn.due.answer, drawn.due.due - 1, drawn.units, drawn.judge(drawn.due)) == "early"


# --- what a check begins with


def lied(drawn: Drawn, **changes: Any):
    """The receipt file with a statement that says something else, signed with the attested key."""
    file = drawn.answer.file
    enclave = SimulatedEnclave(b"s" * 32, drawn.answer.model.manifest.model_id, b"g" * 32, 1)
    signed = sign_receipt(enclave.signing_key, file.order, replace(file.receipt, **changes))
    return replace(file, receipt=signed.receipt, signature=signed.signature)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"prompt_tokens": 1, "answer_tokens": 1, "layers": 1}, "trace-shape"),  # a trace of one leaf
        ({"layers": 1}, "trace-shape"),  # of layer 0 only
        ({"output_bytes": 64}, "trace-shape"),
        ({"kv_bytes": 4}, "trace-shape"),
        ({"answer_tokens": 10}, "length"),
        ({"prompt_tokens": 3}, "prompt"),  # another prompt than the ordered one
        ({"tokens_root": bytes(32)}, "prompt"),
        ({"order_id": bytes(32)}, "order"),
        ({"response_digest": bytes(32)}, "response-digest"),
        ({"lane": "native-float32"}, "lane"),
        ({"seed_hash": bytes(32)}, "trace-seed"),
    ],
)
def test_no_check_begins_with_a_receipt_that_states_something_else(drawn, changes, check):
    file = lied(drawn, **changes)
    assert refused(drawn.open, file=file, kind=ReceiptError) == check


def test_a_receipt_has_to_answer_the_order_that_is_shown(drawn, tiny_portable):
    other = provable(tiny_portable, "w3 w4 w5 w6 w7", Decoding(9), tag=b"\x08")
    assert refused(drawn.open, order=other.placed.order, kind=ReceiptError) == "order"
    assert drawn.open(order=drawn.answer.placed.order).stage is Stage.INCLUDED
    swapped = replace(drawn.answer.file, order=other.placed.order)
    assert refused(drawn.open, file=swapped, kind=ReceiptError) == "order"


def test_a_check_is_of_its_own_court_and_lane(drawn):
    assert refused(drawn.open, agreed(domain=Domain(1, b"c" * 20))) == "domain"


def test_a_receipt_that_is_in_no_batch_is_drawn_by_nothing(drawn):
    path = tuple(merkle.inclusion_proof(drawn.leaves, 1))
    for changes in ({"index": 0}, {"index": 2}, {"index": -1}, {"index": 7}, {"path": path[:-1]}, {"path": ()},
                    {"path": (bytes(32), *path[1:])}, {"path": (*path, bytes(32))}, {"batch": drawn.batch(size=5)},
                    {"batch": drawn.batch(root=bytes(32))}, {"batch": drawn.batch(size=1)}):  # fmt: skip
        assert refused(drawn.open, **changes) == "inclusion", changes


def test_evidence_is_judged_at_the_time_of_the_batch(drawn):
    late = drawn.batch(time=TIME + 10**6)
    assert refused(drawn.open, batch=late, kind=ReceiptError) == "appraisal"


# --- messages


def test_what_nobody_has_signed_convicts_nobody(drawn):
    judge, now = drawn.judge(drawn.due), later(drawn.due)
    body = json.loads(drawn.units)["body"]
    forged = {
        "signature": duty.sign_message(OTHER_KEY, drawn.due.duty, "units", body),
        "duty": duty.sign_message(KEY, drawn.placed.subject, "units", body),
        "kind": duty.sign_message(KEY, drawn.due.duty, "rows", body),
    }
    for check, raw in forged.items():
        assert refused(drawn.due.answer, now, raw, judge) == check
    document = json.loads(drawn.units)
    for changed in ({"signature": "00" * 65}, {"body": []}, {"kind": "proof"}, {"duty": "00" * 32}):
        raw = canonical_json(document | changed) + b"\n"
        assert refused(drawn.due.answer, now, raw, judge) == "signature"
    for raw in (b"", b"{}", b"null\n", drawn.units[:-1], drawn.units + b" ", b"\xff", canonical_json(document),
                canonical_json(document | {"kind": "words"}) + b"\n", canonical_json(document | {"more": 1}) + b"\n",
                canonical_json(document | {"signature": 7}) + b"\n",
                canonical_json(document | {"duty": "0"}) + b"\n"):  # fmt: skip
        assert refused(drawn.due.answer, now, raw, judge) == "message"


def test_terms_place_and_batch_are_part_of_the_duty(drawn):
    """Changed shares, another index, time or operator: messages about one are not about the other."""
    others = [
        replace(drawn.due, terms=agreed(shares={"product": 1})),
        replace(drawn.due, terms=agreed(margin_s=13)),
        replace(drawn.due, index=0),
        replace(drawn.due, batch=drawn.batch(time=TIME + 1)),
    ]
    # The batch's root has the receipt under it; a check that was put together otherwise is another all the same.
    receipt = replace(drawn.due.file.receipt, response_digest=bytes(32))
    assert replace(drawn.due, file=replace(drawn.due.file, receipt=receipt)).duty != drawn.due.duty
    for other in others:
        assert other.duty != drawn.due.duty
        assert refused(other.answer, later(other), drawn.units, drawn.judge(other)) == "duty"
    other = replace(drawn.due, batch=drawn.batch(operator=duty.key_address(OTHER_KEY)))
    assert refused(other.answer, later(other), drawn.units, drawn.judge(other)) == "signature"


def test_an_answer_to_one_draw_is_none_to_another(drawn):
    """Whoever keeps a check says when rows came, and so which round draws units: at another time others
    are drawn, and a signed answer to the first ones convicts nobody there."""
    rows = duty.rows_message(drawn.placed, drawn.who, KEY)
    other = drawn.placed.commit_rows(drawn.committed.rows_at + 30, rows)
    other = other.draw_units(BEACON.sign(other.round))
    assert other.randomness != drawn.due.randomness
    assert refused(other.answer, later(other), drawn.units, drawn.judge(other)) == "duty"
    place = (drawn.placed.position, drawn.placed.layer)
    committed = drawn.who.commit(
        drawn.who.rows(*place) | {"mlp.product": drawn.who.rows(*place)["mlp.product"] + 1}, *place
    )
    again = drawn.placed.commit_rows(
        drawn.committed.rows_at, duty.sign_message(KEY, drawn.placed.duty, "rows", committed.root.hex())
    ).draw_units(BEACON.sign(drawn.committed.round))
    assert again.randomness == drawn.due.randomness
    assert refused(again.answer, later(again), drawn.units, drawn.judge(again)) == "duty"


def test_a_verifier_that_holds_something_else_judges_nothing(drawn):
    judge = drawn.judge(drawn.due)
    for changed, check in (({"model_id": bytes(32)}, "held model"), ({"circuits": b"x" * 32}, "held circuits")):
        assert refused(drawn.due.answer, later(drawn.due), drawn.units, replace(judge, **changed)) == check


WEIRD = (None, -1, 2**31, 2**53, 60, 1.5, True, "", "zz", "00", [], {}, [None], {"unit": 1}, "00" * 2000)


def places(value: Any, path: tuple = ()):
    """Paths to everything in a JSON value."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in [*parts][:3] if isinstance(value, list) else parts:
        yield from places(part, (*path, name))


def changed(value: Any, path: tuple, to: Any) -> Any:
    if not path:
        return to
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], to)
    return copy


def test_a_signed_answer_that_cannot_be_read_convicts(drawn):
    """Whatever stands at whatever place of the answer: a verdict by name, never another exception."""
    body, judge, put = json.loads(drawn.units)["body"], drawn.judge(drawn.due), 0
    names = set()
    for path in places(body):
        for value in WEIRD:
            other = changed(body, path, value)
            if other == body and type(value) is not bool:
                continue
            try:
                message = duty.sign_message(KEY, drawn.due.duty, "units", other)
            except InputError:
                continue  # not expressible in canonical JSON, so nobody can sign it
            found = drawn.due.answer(later(drawn.due), message, judge)
            assert found.stage is Stage.CONVICTED, (path, value)
            names.add(found.refused_by)
            put += 1
    assert put > 1000
    assert {"form", "count", "unit", "rows"} <= names


def test_as_many_answers_as_units_were_drawn(drawn):
    body, judge = json.loads(drawn.units)["body"], drawn.judge(drawn.due)
    for answers in (body[:-1], [], [*body, body[0]]):
        message = duty.sign_message(KEY, drawn.due.duty, "units", answers)
        assert drawn.due.answer(later(drawn.due), message, judge).refused_by == "count"
    message = duty.sign_message(KEY, drawn.due.duty, "units", [*body, *body])
    assert drawn.due.answer(later(drawn.due), message, judge).refused_by == "form"


def test_answers_read_as_they_were_written(drawn):
    read = read_answers(json.loads(drawn.units)["body"], 9)
    assert answers_json(read) == json.loads(drawn.units)["body"]
    assert read_message(drawn.units, duty.key_address(KEY), drawn.due.duty).dump() == drawn.units


@pytest.mark.parametrize("body", [None, 7, "00", "zz" * 32, "AB" * 32, ["00" * 32], {"root": "00" * 32}])
def test_rows_that_are_no_root_convict(drawn, body):
    message = duty.sign_message(KEY, drawn.placed.duty, "rows", body)
    found = drawn.placed.commit_rows(later(drawn.placed), message)
    assert (found.stage, found.refused_by) == (Stage.CONVICTED, "form")
    assert load_check(found.dump(), policy=ALLOW) == found


def test_rows_of_another_place_convict(drawn):
    where = ((drawn.placed.position + 1) % drawn.who.trace.shape.positions, drawn.placed.layer)
    committed = drawn.who.commit(drawn.who.rows(*where), *where)
    check = drawn.placed.commit_rows(
        later(drawn.placed), duty.sign_message(KEY, drawn.placed.duty, "rows", committed.root.hex())
    )
    check = check.draw_units(BEACON.sign(check.round))
    answers = []
    for number in range(4):
        unit = check.challenge(number).unit(drawn.who.layout)
        moved = drawn.who.open_unit(replace(unit, position=where[0]), committed)
        answers.append((moved, replace(moved, unit=unit)))
    for kind, name in ((0, "unit"), (1, "rows")):
        message = duty.sign_message(KEY, check.duty, "units", answers_json(tuple(pair[kind] for pair in answers)))
        assert check.answer(later(check), message, drawn.judge(check)).refused_by == name
    bound = bound_root(drawn.who.trace.root, check.position, check.layer, committed.tree.root)
    assert bound != committed.root


# --- proofs of the whole answer


def test_a_proof_is_the_one_that_was_signed_for(drawn, honest_proof):
    check, judge = drawn.whole, drawn.judge(drawn.whole)
    message = duty.sign_message(KEY, check.duty, "proof", proof_body(honest_proof))
    assert refused(check.answer, later(check), message, judge, honest_proof + b"\0") == "proof bytes"
    assert refused(check.answer, later(check), message, judge) == "proof bytes"
    for body in (
        None,
        {},
        [],
        {"bytes": 1, "sha256": "00"},
        {"bytes": "1", "sha256": "00" * 32},
        {"sha256": "00" * 32},
    ):
        found = check.answer(later(check), duty.sign_message(KEY, check.duty, "proof", body), judge, honest_proof)
        assert found.refused_by == "form"
    for proof, name in (
        (honest_proof + b"\0", "length"),
        (honest_proof[:-1], "length"),
        (b"", "header"),
        (b"\0" * 10**6, "header"),
    ):
        message = duty.sign_message(KEY, check.duty, "proof", proof_body(proof))
        assert check.answer(later(check), message, judge, proof).refused_by == name
    assert check.lapse(check.until + 1).refused_by == "silence"


def test_a_proof_of_another_answer_convicts(drawn, tiny_portable):
    other = provable(tiny_portable, "w3 w4 w5 w6 w8", Decoding(9))
    proof = other.prove()
    check = drawn.whole
    message = duty.sign_message(KEY, check.duty, "proof", proof_body(proof))
    assert check.answer(later(check), message, drawn.judge(check), proof).stage is Stage.CONVICTED


def test_a_wrong_token_that_is_signed_is_convicted(drawn):
    """A receipt that is consistent and false: what units never find."""
    honest = drawn.answer
    ids = list(honest.response.token_ids)
    ids[-2] = next(t for t in range(3, 20) if t != ids[-2] and t not in honest.model.architecture.stop_ids)
    lie = Drawn(signed_lie(honest, tuple(ids)))
    check = lie.whole
    # a change that changes nothing: the prover goes on where an honest one stops
    proof = lie.answer.prove(lambda column, at, own: own)
    message = duty.sign_message(KEY, check.duty, "proof", proof_body(proof))
    assert check.answer(later(check), message, lie.judge(check), proof).stage is Stage.CONVICTED


def test_an_answer_that_no_proof_covers_goes_to_a_dispute(drawn, monkeypatch):
    """Longer than proofs are made for: both sides go by the receipt's length."""
    monkeypatch.setattr("otr_core.spotcheck.proof.verify.MOST_POSITIONS", drawn.answer.file.receipt.positions - 1)
    check, a = drawn.whole, drawn.answer
    message, proof = duty.proof_message(check, a.model, a.said, a.response, KEY, lambda line: None)
    assert proof == HEADER
    assert check.answer(later(check), message, drawn.judge(check), proof).stage is Stage.DISPUTED


def test_soundness_below_the_policy_goes_to_a_dispute(drawn, monkeypatch):
    for module in ("otr_node.proof.answers", "otr_core.spotcheck.proof.verify"):
        monkeypatch.setattr(f"{module}.soundness_bits", lambda *sizes: 99.0)
    check, a = drawn.whole, drawn.answer
    message, proof = duty.proof_message(check, a.model, a.said, a.response, KEY, lambda line: None)
    assert proof == HEADER
    assert check.answer(later(check), message, drawn.judge(check), proof).stage is Stage.DISPUTED


@pytest.mark.parametrize("kind", ["logits", "score", "gate", "up", "product", "output"])
def test_a_model_whose_values_may_have_no_place_in_a_proof_goes_to_a_dispute(drawn, kind):
    """Its bounds say so, whatever the answer is; one bit less, and the answer is proven."""
    honest, bounds = drawn.answer, drawn.answer.model.bounds
    most = {"logits": 58, "score": 53, "gate": 57, "up": 57, "product": 58, "output": 54}[kind]
    check = drawn.whole
    for bits, stage in ((most, Stage.DISPUTED), (most - 1, Stage.ACCEPTED)):
        wide = replace(bounds, accumulators=bounds.accumulators | {kind: 2.0**bits})
        a = replace(honest, model=replace(honest.model, bounds=wide))
        message, proof = duty.proof_message(check, a.model, a.said, a.response, KEY, lambda line: None)
        assert (proof == HEADER) == (stage is Stage.DISPUTED)
        assert check.answer(later(check), message, Drawn(a).judge(check), proof).stage is stage


def test_drawn_logits_that_may_lie_far_apart_go_to_a_dispute(tmp_path):
    """A model whose head is so large that a drawn answer's distances have no place; a greedy one's have."""
    tensors = tiny_tensors(TINY)
    model = load_portable(
        write_tiny(tmp_path, TINY, tensors | {"model.norm.weight": tensors["model.norm.weight"] * 2**10})
    )
    assert 2**47 <= model.bounds.accumulators["logits"] < 2**58
    for milli, stage in ((900, Stage.DISPUTED), (0, Stage.ACCEPTED)):
        lone = Drawn(provable(model, "w3 w4", Decoding(3, 1, milli)))
        check = lone.open(replace(agreed(demand="proof"), domain=lone.answer.file.order.domain))
        check = check.draw(BEACON.sign(check.round))
        a = lone.answer
        message, proof = duty.proof_message(check, a.model, a.said, a.response, KEY, lambda line: None)
        assert check.answer(later(check), message, lone.judge(check), proof).stage is stage


# --- documents of others


def test_a_document_whose_facts_were_changed_is_refused(drawn):
    document = json.loads(drawn.due.dump())
    rounds = [BEACON.sign(drawn.included.round + 1).hex(), BEACON.sign(drawn.committed.round).hex()]
    changes = (
        {"batch": document["batch"] | {"time": TIME + 100}},
        {"events": [{"kind": "round", "signature": rounds[0]}]},
        {"events": document["events"][1:]},
        {"events": [*document["events"], document["events"][-1]]},
        {"events": [*document["events"], {"kind": "lapse", "at": "now"}]},
        {"events": [*document["events"], {"kind": "answer", "at": 5}]},
        {"events": [*document["events"], 7]},
        {"events": 7},
        {"index": "1"},
        {"index": 0},
        {"path": 7},
        {"path": ["00"] * 65},
        {"terms": document["terms"] | {"margin_s": 0}},
        {"terms": document["terms"] | {"units": 5}},
        {"terms": {}},
        {"receipt": {}},
        {"receipt": None},
    )
    for change in changes:
        with pytest.raises(OtrError):
            load_check(canonical_json(document | change) + b"\n", policy=ALLOW)
    for raw in (b"", b"{}\n", drawn.due.dump()[:-1], b"[" * 10**6):
        with pytest.raises(InputError):
            load_check(raw, policy=ALLOW)


def test_a_receipt_in_the_wrong_lane_begins_no_check(drawn, monkeypatch):
    from otr_core.spotcheck import opening

    monkeypatch.setattr(opening, "LANE", "another")
    assert refused(drawn.open) == "lane"


def test_the_order_shown_may_be_ones_own(drawn):
    raw = drawn.included.dump()
    assert load_check(raw, policy=ALLOW, order=drawn.answer.placed.order) == drawn.included
    other = replace(drawn.answer.placed.order, nonce=bytes(32))
    assert refused(load_check, raw, policy=ALLOW, order=other, kind=ReceiptError) == "order"
