"""The table of what is bound names every signed field, and checks that exist."""

from __future__ import annotations

from dataclasses import fields

from otr_core.poea.order import Order
from otr_core.poea.receipt import Receipt
from otr_core.poea.verify import CHECKS, CONTENT_CHECKS, FRESHNESS
from otr_paper.studies.binding import BINDINGS, RUN_AGAIN, SOURCES


def test_every_field_of_order_and_receipt_is_named_once_and_in_order() -> None:
    signed = [("order", own.name) for own in fields(Order)] + [("receipt", own.name) for own in fields(Receipt)]
    assert [(row.document, row.field) for row in BINDINGS] == signed


def test_every_member_of_the_typed_data_belongs_to_a_named_field() -> None:
    for name, kind in (("order", Order), ("receipt", Receipt)):
        named = {row.field for row in BINDINGS if row.document == name}
        for _, _, path in kind.members:
            assert path.split(".")[0].removesuffix("_number") in named


def test_checks_and_sources_exist_and_are_all_used() -> None:
    checks = {*CHECKS, *CONTENT_CHECKS, *FRESHNESS}
    assert {row.check for row in BINDINGS} - {RUN_AGAIN} <= checks
    assert {row.source for row in BINDINGS} == set(SOURCES)
    assert [row.field for row in BINDINGS if row.check == RUN_AGAIN] == ["states_root"]
