"""What the registry can tell from a receipt alone: every lie by its condition, and no condition
without a lie."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest

from otr_core import merkle
from otr_core.dispute import registry
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import Court
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.records import ChallengeStatus
from otr_core.errors import MoveError
from otr_core.poea.order import Domain
from otr_core.poea.receipt import SignedReceipt, sign_receipt
from otr_node.chain.onchain import FIRST_COURT
from otr_paper.labs.disputes.parties import FISHERMAN, KEY, OPERATOR, leaf_of, vouched
from otr_paper.labs.disputes.world import START, TERMS, tiny, tiny_signed
from tests.helpers.receipt_lies import lies, more_registered, signed_as
from tests.helpers.tiny_disputes import tiny_court

LIES = lies(FIRST_COURT)
SALT = b"s" * 32


def fault(court: Court, signed: SignedReceipt, judge=registry.receipt_fault) -> str:
    key, model = court.keys.get(signed.receipt.key_id), court.models.get(signed.order.model_id)
    return judge(court.domain, OPERATOR, key, model, *vars(signed).values())


def opened(court: Court, signed: SignedReceipt, **changes) -> Court:
    root = merkle.root([leaf_of(signed)])
    court, batch = court.commit_batch(START + 1, OPERATOR, root, 1), batch_id(OPERATOR, root)
    court = court.challenge(START + 2, FISHERMAN, challenge_hash(FISHERMAN, batch, 0, 0, SALT), TERMS.bond_wei)
    shown = {"batch": batch, "index": 0, "token": 0, "salt": SALT, "path": (), **vars(signed), **changes}
    return court.open(START + 3, FISHERMAN, 1, **shown)


@pytest.mark.parametrize("name", LIES)
def test_a_receipt_that_is_false_by_itself_convicts_at_once(name):
    expected, signed = LIES[name]
    court = more_registered(tiny_court(tiny()))
    assert fault(court, signed) == expected
    after = opened(court, signed)
    assert after.operators[OPERATOR].convicted
    assert after.challenges[0].status == ChallengeStatus.WON
    assert after.challenges[0].game is None
    assert after.held_wei == court.held_wei + TERMS.bond_wei


@pytest.mark.parametrize("finish", ["length", "stop"])
def test_an_honest_receipt_is_disputed_and_not_convicted(finish):
    """Also one whose last ordered token is a stop token, and one that just fits the context."""
    court = more_registered(tiny_court(tiny()))
    order, d = tiny().order, tiny().trees.dims
    prompt = d.context - order.decoding.max_tokens
    fitting = replace(order, prompt_tokens=prompt)
    for signed in (tiny_signed(tiny().honest, finish=finish), vouched(fitting, tiny().honest, prompt_tokens=prompt)):
        assert fault(court, signed) == ""
        assert opened(court, signed).challenges[0].status == ChallengeStatus.OPEN
    short = tiny_signed(tiny().honest, answer_tokens=1, finish="stop")
    assert fault(court, short) == ""


#: Each condition, as it stands in the source, and what stands there without it.
CUTS = [
    ("model is None", "False"),
    ("key is None or ", ""),
    (" or key.operator != operator", ""),
    ("key.model_id != order.model_id", "False"),
    ("receipt.lane != d.lane", "False"),
    ("(receipt.layers, ", "(d.layers, "),
    (", receipt.output_bytes, ", ", 4 * d.hidden, "),
    (", receipt.kv_bytes)", ", 4 * d.kv)"),
    ("receipt.configuration_digest != configuration_of(d.lane)", "False"),
    ("receipt.prompt_tokens != order.prompt_tokens", "False"),
    ("receipt.prompt_tokens < 1 or ", ""),
    ("1 <= receipt.answer_tokens <= most", "receipt.answer_tokens <= most"),
    ("1 <= receipt.answer_tokens <= most", "1 <= receipt.answer_tokens"),
    ("receipt.prompt_tokens + receipt.answer_tokens > d.context", "False"),
    ('receipt.finish == "length" and receipt.answer_tokens != most', "False"),
    ('except ReceiptError:\n        return "signature"', 'except ReceiptError:\n        return ""'),
    ("signer == key.address", "True"),
]


@pytest.mark.parametrize(("condition", "instead"), CUTS)
def test_without_a_condition_a_lie_passes(condition, instead):
    source = inspect.getsource(registry.receipt_fault)
    assert source.count(condition) == 1
    space = dict(vars(registry))
    exec(source.replace(condition, instead), space)
    court, passed = more_registered(tiny_court(tiny())), set()
    for name, (expected, signed) in LIES.items():
        try:
            found = fault(court, signed, space["receipt_fault"])
        except AttributeError:  # of what is not there
            found = "nothing"
        if found != expected:
            passed.add(name)
    assert passed


def test_only_the_order_that_the_receipt_names_opens_it():
    """Else whoever brings another order could convict an honest operator."""
    signed = tiny_signed(tiny().honest)
    other = replace(signed.order, decoding=replace(signed.order.decoding, max_tokens=3))
    for change in (
        {"order": other},
        {"order": replace(signed.order, nonce=bytes(32))},
        {"receipt": replace(signed.receipt, order_id=other.id)},
    ):
        with pytest.raises(MoveError) as failure:
            opened(tiny_court(tiny()), signed, **change)
        assert failure.value.reason == "order"
    # The order counts under this court's domain, whatever domain it is brought with.
    elsewhere = replace(signed.order, domain=Domain())
    assert opened(tiny_court(tiny()), signed, order=elsewhere) == opened(tiny_court(tiny()), signed)
    foreign = signed_as(elsewhere, signed.receipt, order_id=elsewhere.id)
    with pytest.raises(MoveError) as failure:
        opened(tiny_court(tiny()), foreign)
    assert failure.value.reason == "order"


def test_a_receipt_for_another_court_is_not_of_this_ones_batch():
    """Its leaf is another, so that a signature counts in one court only."""
    signed = tiny_signed(tiny().honest)
    elsewhere = replace(signed.order, domain=replace(FIRST_COURT, chain_id=1))
    root = merkle.root([leaf_of(sign_receipt(KEY, elsewhere, signed.receipt))])
    court, batch = tiny_court(tiny()).commit_batch(START + 1, OPERATOR, root, 1), batch_id(OPERATOR, root)
    court = court.challenge(START + 2, FISHERMAN, challenge_hash(FISHERMAN, batch, 0, 0, SALT), TERMS.bond_wei)
    with pytest.raises(MoveError) as failure:
        court.open(START + 3, FISHERMAN, 1, batch=batch, index=0, token=0, salt=SALT, path=(), **vars(signed))
    assert failure.value.reason == "path"
