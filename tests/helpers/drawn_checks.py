"""Spot checks of a tiny answer, at every stage, and the parties to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pytest

from otr_core import merkle
from otr_core.dispute.court import receipt_leaf
from otr_core.poea.document import ReceiptFile
from otr_core.poea.tee import EvidencePolicy
from otr_core.spotcheck.opening import open_check
from otr_core.spotcheck.protocol import Judge, SpotCheck
from otr_core.spotcheck.wire import CheckTerms, CommittedBatch
from otr_node import duty
from otr_node.spotchecks import CheckedOperator
from otr_paper.labs.lab_beacon import LabBeacon
from tests.helpers.answer_proofs import ProvableAnswer

KEY, OTHER_KEY = b"\x11" * 32, b"\x12" * 32
TIME = 2000
ALLOW = EvidencePolicy(allow_simulated=True)
BEACON = LabBeacon()
OPENED = {"attention.norm": 3, "query": 3, "key": 3, "attention": 3, "mlp.norm": 3, "product": 8}
"""Shares of the operators without weights: their units need no circuit."""


def agreed(**changes: Any) -> CheckTerms:
    """Terms that draw every answer."""
    fields = {"beacon": BEACON.chain, "spot_bps": 10_000, "demand": "units", "units": 4, "shares": OPENED}
    clocks = {"rows_s": 60, "answer_s": 600, "margin_s": 12, "circuits": duty.verifier_of(MODEL[0], {}).digest}
    given = {**fields, **clocks, **changes}
    if given["demand"] == "proof":
        given |= {"units": 0, "shares": {}, "circuits": bytes(32)} | changes
    return CheckTerms(domain=given.pop("domain", FILE[0].order.domain), **given)


MODEL: list[Any] = []
FILE: list[ReceiptFile] = []


@dataclass
class Drawn:
    """An answer in a batch of three, its operator, and checks of it."""

    answer: ProvableAnswer

    @cached_property
    def leaves(self) -> list[bytes]:
        own = receipt_leaf(self.answer.file.order.domain, self.answer.file.receipt, self.answer.file.signature)
        return [b"another", own, b"a third"]

    def batch(self, **changes: Any) -> CommittedBatch:
        made = CommittedBatch(duty.key_address(KEY), merkle.root(self.leaves), 3, TIME)
        return replace(made, **changes)

    def open(self, terms: CheckTerms | None = None, file: ReceiptFile | None = None, **changes: Any) -> SpotCheck:
        own = self.answer.file if file is None else file
        leaf = receipt_leaf(own.order.domain, own.receipt, own.signature)
        leaves = [self.leaves[0], leaf, self.leaves[2]]
        given = {"batch": self.batch(root=merkle.root(leaves)), "index": 1} | changes
        path = given.pop("path", tuple(merkle.inclusion_proof(leaves, 1)))
        order = given.pop("order", None)
        terms = agreed() if terms is None else terms
        return open_check(terms, own.dump(), given["batch"], given["index"], path, policy=ALLOW, order=order)

    @cached_property
    def included(self) -> SpotCheck:
        return self.open()

    @cached_property
    def placed(self) -> SpotCheck:
        return self.included.draw(BEACON.sign(self.included.round))

    @cached_property
    def who(self) -> CheckedOperator:
        a = self.answer
        return duty.operator_of(a.model, a.file, a.said, a.response, {})

    @cached_property
    def committed(self) -> SpotCheck:
        return self.placed.commit_rows(self.placed.due + 5, duty.rows_message(self.placed, self.who, KEY))

    @cached_property
    def due(self) -> SpotCheck:
        return self.committed.draw_units(BEACON.sign(self.committed.round))

    @cached_property
    def units(self) -> bytes:
        return duty.units_message(self.due, self.who, KEY)

    @cached_property
    def whole(self) -> SpotCheck:
        """A check that demands a proof, drawn."""
        check = self.open(agreed(demand="proof"))
        return check.draw(BEACON.sign(check.round))

    def judge(self, check: SpotCheck) -> Judge:
        a = self.answer
        return duty.drawn_judge(check, a.model, a.said, a.response, {})


@pytest.fixture(scope="session")
def drawn(answer: ProvableAnswer) -> Drawn:
    """The tiny answer, checked."""
    MODEL[:], FILE[:] = [answer.model], [answer.file]
    return Drawn(answer)
