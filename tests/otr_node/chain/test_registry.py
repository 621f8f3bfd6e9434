"""The registry on chain: the same lies by the same conditions as in Python, and no condition
without a lie."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from otr_core.dispute.registry import NOTICE_S
from otr_core.dispute.words import judge_words
from otr_core.errors import ChainError
from otr_core.poea.order import Domain, Order, type_hash
from otr_core.poea.receipt import Receipt, SignedReceipt, sign_receipt
from otr_node.chain.evm import Chain, Contract, compile_vyper
from otr_node.chain.onchain import FIRST_COURT, FOLDER, NOBODY, ChainCourt, struct_words
from otr_paper.labs.disputes.both import both
from otr_paper.labs.disputes.parties import KEY, KEY_ID, OPERATOR, OTHER, REGISTRAR, registered_key, vouched
from otr_paper.labs.disputes.world import TERMS, tiny, tiny_signed
from tests.helpers.receipt_lies import (
    OTHER_MODEL,
    OTHERS_KEY,
    UNKNOWN_MODEL,
    UNKNOWN_MODELS_KEY,
    lies,
    more_registered,
)

pytestmark = pytest.mark.slow
SOURCE = (FOLDER / "registry.vy").read_text()
LIES = lies(FIRST_COURT)
CLASSED_KEY = b"z" * 32
"""Of the operator, on a class of platforms."""


class Asker:
    """A chain with a judge; registries are asked from its first account, as if it were the
    court."""

    def __init__(self) -> None:
        self.chain, trees = Chain(accounts=3), tiny().trees
        args = judge_words(trees.dims), trees.weights_root, trees.tables_root, list(trees.stop_ids)
        self.judge, _ = self.chain.deploy(compile_vyper(FOLDER / "judge.vy"), *args)
        self.domain = Domain(self.chain.id, bytes.fromhex(self.chain.accounts[0][2:]))
        self.operator, self.other = self.chain.accounts[1], self.chain.accounts[2]

    def registry(self, path: Path) -> Contract:
        types = type_hash("Order", Order.members), type_hash("Receipt", Receipt.members)
        types = *types, 1_000, NOTICE_S
        registry, _ = self.chain.deploy(compile_vyper(path), *types)
        for model in (tiny().order.model_id, OTHER_MODEL):
            self.chain.transact(registry, "register_model", model, self.judge.address)
        for key_id, operator, model in (
            (KEY_ID, self.operator, tiny().order.model_id),
            (OTHERS_KEY, self.other, tiny().order.model_id),
            (UNKNOWN_MODELS_KEY, self.operator, UNKNOWN_MODEL),
            (CLASSED_KEY, self.operator, tiny().order.model_id),
        ):
            key = registered_key(operator, model)
            platform = b"c" * 32 if key_id == CLASSED_KEY else key.platform
            self.chain.transact(registry, "register_key", key_id, operator, model, "0x" + key.address.hex(), platform)
        return registry

    def vouch(
        self,
        registry: Contract,
        signed: SignedReceipt,
        sender: str | None = None,
        platform: bytes = bytes(32),
        **words: int,
    ) -> str:
        """Name of the broken condition, or why the call reverts.

        Args:
            platform: class that the batch was committed under.
            words: of the receipt's, by the attribute that fills them, in the place of its own.
        """
        names = [path for _, _, path in Receipt.members]
        stated = tuple(words.get(n, word) for n, word in zip(names, struct_words(signed.receipt), strict=True))
        call = self.operator, struct_words(signed.order), stated, signed.signature, 0, platform
        try:
            return str(self.chain.call(registry, "vouch", *call, sender=sender)[1])
        except ChainError as error:
            return f"reverts: {error.check}"


@pytest.fixture(scope="module")
def asker() -> Asker:
    return Asker()


@pytest.fixture(scope="module")
def registry(asker) -> Contract:
    return asker.registry(FOLDER / "registry.vy")


def test_both_registries_name_the_same_condition(asker, registry):
    honest = vouched(replace(tiny().order, domain=asker.domain), tiny().honest)
    assert asker.vouch(registry, honest) == ""
    for name, (expected, signed) in lies(asker.domain).items():
        assert asker.vouch(registry, signed) == expected, name


def test_numbers_that_no_receipt_in_python_holds(asker, registry):
    honest = vouched(replace(tiny().order, domain=asker.domain), tiny().honest)
    most = 2**256 - 1
    assert asker.vouch(registry, honest, finish_number=2) == "finish"
    assert asker.vouch(registry, honest, prompt_tokens=most) == "prompt"
    assert asker.vouch(registry, honest, answer_tokens=most) == "length"
    assert asker.vouch(registry, honest, layers=most) == "trace-shape"


def test_order_and_receipt_count_for_the_court_that_asks(asker, registry):
    order = replace(tiny().order, domain=asker.domain)
    honest = vouched(order, tiny().honest)
    assert asker.vouch(registry, honest, sender=asker.other) == "reverts: order"
    for domain in (Domain(), replace(asker.domain, chain_id=1), replace(asker.domain, court=bytes(20))):
        assert asker.vouch(registry, replace(honest, order=replace(order, nonce=bytes(32)))) == "reverts: order"
        # an order of that domain, and the order of this one with a signature for that one
        assert asker.vouch(registry, vouched(replace(order, domain=domain), tiny().honest)) == "reverts: order"
        elsewhere = sign_receipt(KEY, replace(order, domain=domain), honest.receipt)
        assert asker.vouch(registry, replace(elsewhere, order=order)) == "signature"


def test_a_key_of_another_class_than_its_batchs_answers_nothing(asker, registry):
    """As in Python: ``test_a_batch_is_known_by_the_class_of_its_keys``. A key without a class is of any."""
    honest = vouched(replace(tiny().order, domain=asker.domain), tiny().honest, key_id=CLASSED_KEY)
    for batch, fault in ((b"c" * 32, ""), (bytes(32), "platform"), (b"d" * 32, "platform")):
        assert asker.vouch(registry, honest, platform=batch) == fault
    assert asker.vouch(registry, vouched(honest.order, tiny().honest), platform=b"d" * 32) == ""


#: Under which domain ``vouch`` counts, as it stands in the source.
VOUCHED = "VERSION, chain.id, msg.sender))\n    order_id"
#: Each condition, as it stands in the source, and what stands there without it.
CUTS = [
    ("judge == empty(address)", "False"),
    ("key.operator != operator", "False"),
    ("key.model_id != order.model_id", "False"),
    ("key.platform != empty(bytes32) and key.platform != platform", "False"),
    ("receipt.lane != lane", "False"),
    ("receipt.layers != layers or ", ""),
    ("receipt.output_bytes != output_bytes or ", ""),
    (" or receipt.kv_bytes != kv_bytes", ""),
    ("receipt.prompt_tokens < 1 or ", ""),
    ("receipt.answer_tokens < 1 or ", ""),
    (" or receipt.answer_tokens > order.max_tokens", ""),
    ("receipt.prompt_tokens > context or ", ""),
    (" or receipt.answer_tokens > context - receipt.prompt_tokens", ""),
    ("receipt.finish > STOP or ", ""),
    (" or (receipt.finish == LENGTH and receipt.answer_tokens != order.max_tokens)", ""),
    ("if s > HALF_ORDER:", "if False:"),
    ("if self._recovered(digest, signature) != key.key:", "if False:"),
    ('    assert receipt.order_id == order_id, "order"\n', ""),
    (VOUCHED, VOUCHED.replace("chain.id", "convert(1, uint256)")),
    (VOUCHED, VOUCHED.replace("msg.sender", "self")),
]


@pytest.mark.parametrize(("condition", "instead"), CUTS)
def test_without_a_condition_a_lie_passes_on_chain(asker, condition, instead, tmp_path):
    assert SOURCE.count(condition) == 1
    path = tmp_path / "registry.vy"
    shutil.copy(FOLDER / "shapes.vy", tmp_path)
    path.write_text(SOURCE.replace(condition, instead))
    cut = asker.registry(path)
    honest = vouched(replace(tiny().order, domain=asker.domain), tiny().honest)
    found = {name: asker.vouch(cut, signed) for name, (_, signed) in lies(asker.domain).items()}
    found["a third finish"] = asker.vouch(cut, honest, finish_number=2)
    longer = replace(tiny().order, domain=asker.domain, prompt_tokens=10**6)
    found["longer than the context"] = asker.vouch(cut, vouched(longer, tiny().honest, prompt_tokens=10**6))
    found["another order"] = asker.vouch(cut, replace(honest, order=replace(honest.order, nonce=bytes(32))))
    found["another class"] = asker.vouch(cut, vouched(honest.order, tiny().honest, key_id=CLASSED_KEY))
    found["honest"] = asker.vouch(cut, honest)
    expected = {name: fault for name, (fault, _) in lies(asker.domain).items()}
    beside = {"a third finish": "finish", "longer than the context": "length", "another order": "reverts: order"}
    beside["another class"] = "platform"
    assert found != expected | beside | {"honest": ""}


@pytest.mark.parametrize("name", LIES)
def test_a_receipt_that_is_false_by_itself_convicts_at_once_in_both(name):
    pair = both(tiny().honest, TERMS)
    names, model_id = pair.names, tiny().order.model_id
    pair.court = more_registered(pair.court, names[OPERATOR], names[OTHER], names[REGISTRAR])
    pair.chain.register_model(OTHER_MODEL, tiny().trees)
    pair.chain.register_key(OTHERS_KEY, registered_key(names[OTHER], model_id))
    pair.chain.register_key(UNKNOWN_MODELS_KEY, registered_key(names[OPERATOR], UNKNOWN_MODEL))
    pair.open_challenge(LIES[name][1], [bytes(97)], token=0, salt=b"s" * 32, pay=7)
    assert pair.court.operators[names[OPERATOR]].convicted
    assert pair.court.challenges[0].game is None


def test_the_first_court_of_a_fresh_chain_stands_where_orders_say():
    chain = Chain(accounts=6)
    assert (
        ChainCourt(chain, TERMS, chain.accounts[0].lower()).domain
        == FIRST_COURT
        == tiny_signed(tiny().honest).order.domain
    )


def test_each_rule_of_a_registration_refuses_on_chain():
    pair = both(tiny().honest, TERMS)
    chain, registry = pair.chain.chain, pair.chain.registry
    registrar, other, operator = (pair.names[who] for who in (REGISTRAR, OTHER, OPERATOR))
    model_id, judge = next((own, found.address) for own, found in pair.chain.judges.items())
    new, platform, key = b"n" * 32, b"p" * 32, pair.names[OTHER]

    def refused(reason: str, name: str, *args: object, sender: str = registrar) -> None:
        with pytest.raises(ChainError) as failure:
            chain.transact(registry, name, *args, sender=sender)
        assert failure.value.check == reason, (name, args)

    def done(name: str, *args: object, sender: str = registrar) -> None:
        chain.transact(registry, name, *args, sender=sender)

    refused("sender", "register_model", new, judge, sender=other)
    refused("model", "register_model", model_id, judge)
    refused("model", "register_model", new, NOBODY)
    refused("sender", "register_key", new, operator, model_id, key, platform, sender=other)
    refused("key", "register_key", KEY_ID, operator, model_id, key, platform)
    refused("key", "register_key", new, NOBODY, model_id, key, platform)
    refused("key", "register_key", new, operator, model_id, NOBODY, platform)
    refused("sender", "revoke", new, sender=other)
    done("revoke", new)
    refused("revoked", "revoke", new)
    refused("key", "register_key", new, operator, model_id, key, platform)
    done("register_key", b"m" * 32, operator, model_id, key, platform)
    refused("platform", "register_key", b"o" * 32, operator, model_id, key, b"q" * 32)
    done("register_key", b"t" * 32, operator, model_id, key, platform)
    done("revoke", platform)
    refused("key", "register_key", b"o" * 32, operator, model_id, key, platform)
    counts = chain.call(registry, "revoked", platform)
    chain.travel(counts)
    refused("platform", "register_key", b"o" * 32, operator, model_id, key, b"q" * 32)
    chain.travel(counts + 1)
    done("register_key", b"o" * 32, operator, model_id, key, b"q" * 32)
    refused("sender", "name_heir", other, sender=other)
    refused("sender", "inherit", sender=other)
    done("name_heir", other)
    refused("sender", "inherit")
    refused("early", "inherit", sender=other)
    chain.travel(chain.time + TERMS.exit_s)
    done("inherit", sender=other)
    refused("sender", "revoke", b"q" * 32)
    refused("sender", "inherit", sender=other)
