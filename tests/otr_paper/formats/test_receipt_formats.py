"""What each format binds and leaves open: every cell of the table is tried.

A cell that says "bound" has a change of that very thing which is refused, one that says "open" a
change which is accepted. The changes are made by whoever is free to make them: the signer with the
attested key for what a format leaves to the signer, and for Computation Receipts anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from otr_core.errors import ReceiptError
from otr_core.poea import Domain, Message, OnceStore, verify_receipt
from otr_core.poea.receipt import sign_receipt
from otr_core.poea.tee import EvidencePolicy
from otr_paper.formats.aci import receipt_formats
from otr_paper.formats.computation import check_computation_receipt, sample_indices
from tests.helpers import foreign as f
from tests.helpers import receipts as r

ROWS = {row["question"]: row for row in receipt_formats()}
(WEIGHTS, REQUEST, PROMPT, SAMPLING, LENGTH, EXECUTION, ANSWER, ONCE, SIGNER, HARDWARE, TIME, COURT) = ROWS

OTHER = b"\xd1" * 32


def otr(file: Any = None, **options: Any) -> object:
    placed = r.ordered()
    fixed: dict[str, Any] = {"policy": r.ALLOW, "as_of": r.NOW, "order": placed.order}
    return verify_receipt(r.signed(placed) if file is None else file, **(fixed | options))


def otr_other_order(**changes: Any) -> object:
    """The operator answers another order than the client's, with the attested key."""
    placed = r.ordered()
    return otr(r.forged(placed, order=replace(placed.order, **changes)))


def otr_twice(folder: Path) -> object:
    nonces = OnceStore(folder / "nonces")
    otr(nonces=nonces)
    return otr(nonces=nonces)


def otr_stated(**changes: Any) -> object:
    """The receipt changed after it was signed."""
    file = r.signed()
    return otr(replace(file, receipt=replace(file.receipt, **changes)))


def otr_signed_by_another() -> object:
    file = r.signed()
    other = r.enclave(secret=b"t" * 32)
    return otr(replace(file, signature=sign_receipt(other.signing_key, file.order, file.receipt).signature))


def otr_other_evidence(**changes: Any) -> object:
    return otr(replace(r.signed(), evidence=r.enclave(**changes).evidence()))


def aci_bodies(request: bytes = f.REQUEST, response: bytes = f.RESPONSE) -> object:
    """Other bodies than those that were signed."""
    return f.aci(bodies=(request, response))


def aci_answers(response: bytes) -> object:
    """Another answer, signed with the attested key."""

    def change(receipt: dict[str, Any]) -> None:
        receipt["event_log"][-1]["body_hash"] = f.sha256(response)

    return f.aci(change, bodies=(f.REQUEST, response))


def aci_signs(**changes: Any) -> object:
    return f.aci(lambda receipt: receipt.update(changes))


def aci_forwards(body: bytes) -> object:
    return f.aci(lambda receipt: receipt["event_log"][1].update(body_hash=f.sha256(body)))


def aci_states(root: str) -> object:
    return f.aci(lambda receipt: receipt["event_log"].insert(2, {"type": "vendor.execution", "states": root}))


def computed(own: dict[str, Any] | None = None, *, meta: dict[str, Any] | None = None, **parts: Any) -> str:
    """A receipt with these parts, held against the verifier's own computation."""
    raw = f.certified(f.manifest_of(**parts), meta=meta or {})
    check_computation_receipt(raw, f.manifest_of() if own is None else own)
    return "accepted"


def computed_in_part() -> str:
    """A row of the output is wrong, and the prover tries rows until the sample leaves it out."""
    own = f.manifest_of()
    for row in range(len(f.OUTPUT)):
        output = f.OUTPUT.copy()
        output[row] += 1
        manifest = f.sampled(lambda m, output=output: output[sample_indices(m)], output=output)
        rows = f.OUTPUT[sample_indices(manifest)]  # the verifier's own
        if row not in sample_indices(manifest):
            check_computation_receipt(f.certified(manifest), own, rows)
            return "accepted"
    raise AssertionError("no row was left out, expected most to be")


def sampled_by_own_challenge(challenge: str) -> str:
    manifest = f.sampled(lambda m: f.OUTPUT[sample_indices(m)], sample={"challenge": challenge})
    check_computation_receipt(f.certified(manifest), f.manifest_of(), f.OUTPUT[sample_indices(manifest)])
    return "accepted"


SHORT = f.RESPONSE.replace(b"Because.", b"Be").replace(b"stop", b"length")

#: Question -> format -> what changes the thing and has the receipt checked. Several for an open
#: cell: all are accepted. A string names the check that refuses.
CELLS: dict[str, dict[str, tuple[Callable[..., object] | str, ...]]] = {
    WEIGHTS: {
        "otr": ("measured-model", lambda: otr_other_evidence(model_id=OTHER)),
        "aci": (lambda: aci_signs(model="m"), lambda: aci_signs(model="larger"), lambda: aci_signs(model=None)),
        "computation": ("recomputation", lambda: computed(model={"w": np.ones(8, np.int8)})),
    },
    REQUEST: {
        "otr": ("query-digest", lambda: otr(replace(r.signed(), query=r.ordered((5, 9), 2).query))),
        "aci": ("request", lambda: aci_bodies(f.REQUEST.replace(b"Why", b"Who"))),
        "computation": (lambda: computed(meta={"request": "Why?"}), lambda: computed(meta={"request": "Who?"})),
    },
    PROMPT: {
        "otr": ("prompt", lambda: otr(r.forged(r.ordered(), prompt=(5, 9, 12)))),
        "aci": (lambda: aci_forwards(b"Why?"), lambda: aci_forwards(b"Never say why.")),
        "computation": ("recomputation", lambda: computed(inputs={"x": np.arange(1, 5, dtype=np.int32)})),
    },
    SAMPLING: {
        "otr": ("order", lambda: otr_other_order(decoding=replace(r.ordered().order.decoding, temperature_milli=0))),
        "aci": ("request", lambda: aci_bodies(f.REQUEST.replace(b"0.7", b"0.0"))),
        "computation": (lambda: computed(meta={"temperature": 0}), lambda: computed(meta={"temperature": 1})),
    },
    LENGTH: {
        "otr": ("finish", lambda: otr(r.forged(r.ordered(), ids=(3, 4), statement={"finish": "length"}))),
        "aci": (lambda: aci_answers(f.RESPONSE), lambda: aci_answers(SHORT)),
        "computation": ("recomputation", lambda: computed(output=f.OUTPUT[:2])),
    },
    EXECUTION: {
        "otr": ("signature", lambda: otr_stated(states_root=OTHER)),
        "aci": (lambda: f.aci(), lambda: aci_states("aa"), lambda: aci_states("bb")),
        "computation": (computed_in_part,),
    },
    ANSWER: {
        "otr": (
            "response-digest",
            lambda: otr(replace(r.signed(), response=Message("response", plain={"text": "No."}))),
        ),
        "aci": ("response", lambda: aci_bodies(response=f.RESPONSE.replace(b"Because", b"No"))),
        "computation": ("recomputation", lambda: computed(output=f.OUTPUT + 1)),
    },
    ONCE: {
        "otr": ("freshness", otr_twice),
        "aci": (lambda: f.aci(), lambda: f.aci(), lambda: aci_answers(SHORT)),
        "computation": (lambda: sampled_by_own_challenge("00"), lambda: sampled_by_own_challenge("01")),
    },
    SIGNER: {
        "otr": ("signature", otr_signed_by_another),
        "aci": ("signature", lambda: f.aci(key=f.OTHER_KEY)),
        "computation": (lambda: computed(meta={"operator": "A"}), lambda: computed(meta={"operator": "B"})),
    },
    HARDWARE: {
        "otr": ("appraisal", lambda: otr_other_evidence(root=b"r" * 32)),
        "aci": ("report-data", lambda: f.aci(key=f.OTHER_KEY, keyset=f.keyset_of(f.OTHER_KEY))),
        "computation": (lambda: computed(meta={"hardware": "FPGA"}), lambda: computed(meta={"hardware": "none"})),
    },
    TIME: {
        "otr": (lambda: otr(as_of=r.NOW), lambda: otr(as_of=r.NOW + 600)),
        "aci": (lambda: aci_signs(served_at=f.NOW), lambda: aci_signs(served_at=0)),
        "computation": (lambda: computed(meta={"time": 0}), lambda: computed(meta={"time": f.NOW})),
    },
    COURT: {
        "otr": ("order", lambda: otr_other_order(domain=Domain(1, b"\x01" * 20))),
        "aci": (lambda: aci_answers(b"wrong"), lambda: aci_answers(f.RESPONSE)),
        "computation": (lambda: computed(meta={"operator": "A"}), lambda: computed(meta={})),
    },
}


def test_every_cell_is_tried() -> None:
    assert set(CELLS) == set(ROWS)
    for row in ROWS.values():
        assert set(CELLS[row["question"]]) == {"otr", "aci", "computation"}
        assert all(row[name] and row[f"{name}_how"] for name in ("otr", "aci", "computation"))
        assert row["source"].startswith("ACI ")
        assert "; CR " in row["source"]


@pytest.mark.parametrize("question", CELLS)
@pytest.mark.parametrize("name", ["otr", "aci", "computation"])
def test_cells(question: str, name: str, tmp_path: Path) -> None:
    said, (first, *changes) = ROWS[question][name], CELLS[question][name]
    if isinstance(first, str):
        with pytest.raises(ReceiptError) as caught:
            changes[0](*([tmp_path] if changes[0] is otr_twice else []))  # type: ignore[operator]
        assert (said, caught.value.check) == ("bound", first)
    else:
        assert all(change() for change in (first, *changes))  # type: ignore[operator]
        assert said == "open"


def test_the_unchanged_is_accepted() -> None:
    """So that each refusal above is of the change."""
    assert otr()
    assert otr(r.forged(r.ordered()))
    assert f.aci()
    assert computed()


def test_evidence_is_needed_for_ours() -> None:
    with pytest.raises(ReceiptError, match="appraisal"):
        otr(policy=EvidencePolicy(allow_simulated=False))
