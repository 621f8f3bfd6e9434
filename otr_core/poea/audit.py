"""Check a receipt file against what its reader knows: models, the order, nonces seen before.

``verify_receipt`` decides whether the parts of a file belong together. They can, and the file may
still answer an order that nobody gave, for a model that its author made up. Only the reader's own
knowledge helps against that.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core.errors import DataError, ReceiptError
from otr_core.poea.attested import appraise_evidence
from otr_core.poea.client import PlacedOrder, check_answer
from otr_core.poea.document import load_receipt_file
from otr_core.poea.once import OnceStore
from otr_core.poea.tee import Appraiser, EvidencePolicy
from otr_core.poea.verify import CHECKS, CONTENT_CHECKS, FRESHNESS, Verification, verify_receipt

REGISTERED = "registered-model"
"""The check made before all others: the order is for a model that the reader knows."""


@dataclass(frozen=True)
class FileVerdict:
    """Every check's outcome for one receipt file.

    Attributes:
        table: name, status (passed, failed, not run, not made) and meaning of each check, in their
            order. What is sealed, or nobody remembers, cannot be checked and is *not made*.
        rejection: the check that failed, with what it found and expected; None when the file is
            accepted.
        model_id: the ordered model, hex.
        model_name: its name; "the model you named" when the list of models has none.
        verification: what was shown; None when the file is rejected.
    """

    table: tuple[tuple[str, str, str], ...]
    rejection: ReceiptError | None
    model_id: str
    model_name: str
    verification: Verification | None

    @property
    def accepted(self) -> bool:
        return self.rejection is None

    @property
    def line(self) -> str:
        """The verdict in one sentence, with what it rests on."""
        shown = self.verification
        if shown is None:
            return f"rejected by check {self.rejection}"
        tee = "simulated TEE: nothing is shown about hardware" if shown.simulated else "hardware TEE"
        text = f"accepted: {self.model_name}, {tee}"
        if not shown.content:
            text += "; the answer is sealed, and only its client can hold its tokens against the receipt"
        if shown.order_from == "file":
            text += "; the order is taken as the file states it, whoever gave it (hold your own against it: --order)"
        return text

    def document(self) -> dict[str, Any]:
        """The verdict as a JSON object: what ``otr verify --json`` prints."""
        rejected, shown = self.rejection, self.verification
        return {
            "accepted": rejected is None,
            "check": rejected.check if rejected else None,
            "found": str(rejected.found)[:400] if rejected else None,
            "expected": str(rejected.expected)[:400] if rejected else None,
            "tee": None if shown is None else "simulated" if shown.simulated else "hardware",
            "order_from": None if shown is None else shown.order_from,
            "content_checked": shown is not None and shown.content,
            "model_id": self.model_id,
            "table": [list(row) for row in self.table],
            "line": self.line,
        }


def registered_models(data: Path) -> dict[str, str]:
    """Model id (hex) → name and lane, from ``models.toml`` in the folder ``data``.

    Raises:
        DataError: the file is absent or not a list of models.
    """
    return {entry["model_id"]: f"{entry['name']} ({entry['lane']})" for entry in _registered(data)}


def registered_lanes(data: Path) -> dict[str, str]:
    """Model id (hex) → lane, as ``registered_models``."""
    return {entry["model_id"]: entry["lane"] for entry in _registered(data)}


def _registered(data: Path) -> list[dict[str, str]]:
    path = data / "models.toml"
    try:
        entries = tomllib.loads(path.read_text("utf-8"))["model"]
        return [{name: str(entry[name]) for name in ("model_id", "name", "lane")} for entry in entries]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of models ({error!r}); restore it from git") from error


def verify_file(
    raw: bytes,
    *,
    policy: EvidencePolicy,
    as_of: int,
    models: Mapping[str, str],
    model_id: bytes | None = None,
    placed: PlacedOrder | None = None,
    nonces: OnceStore | None = None,
    appraise: Appraiser = appraise_evidence,
) -> FileVerdict:
    """Check a receipt file and tell every check's outcome. The checks, in their order:

    1. The ordered model is the one the reader named (``model_id``), or one of ``models`` when none
       is named.
    2. The file passes ``check_answer`` against the reader's own order, or ``verify_receipt`` with
       the order in the file.

    Args:
        as_of: instant of the check, Unix seconds. models: see ``registered_models``.
        placed: the reader's own copy of the order. nonces: of answers accepted before; the order's
            is added to an accepted one's. appraise: how evidence is judged.

    Raises:
        InputError: the file is unreadable.
    """
    file = load_receipt_file(raw)
    ordered = file.order.model_id.hex()
    wanted = sorted(models) if model_id is None else [model_id.hex()]
    rejected, shown = None, None
    try:
        # 1. The ordered model is the one the reader named (``model_id``), or one of ``models`` when
        # none is named.
        if ordered not in wanted:
            raise ReceiptError(REGISTERED, f"model {ordered}", f"one of {', '.join(wanted)}")

        # 2. The file passes ``check_answer`` against the reader's own order, or ``verify_receipt``
        # with the order in the file.
        common: dict[str, Any] = {"policy": policy, "as_of": as_of, "appraise": appraise, "nonces": nonces}
        if placed is None:
            shown = verify_receipt(file, order_from="file", **common)
        else:
            shown = check_answer(file, placed, **common).verification
    except ReceiptError as error:
        rejected = error
    sealed = placed is None and (file.query.sealed is not None or file.response.sealed is not None)
    skipped = {*(CONTENT_CHECKS if sealed else ()), *(FRESHNESS if nonces is None else ())}
    meanings = {REGISTERED: "the order is for a model the verifier knows", **CHECKS, **CONTENT_CHECKS, **FRESHNESS}
    return FileVerdict(
        table=tuple(zip(meanings, _statuses(list(meanings), skipped, rejected), meanings.values(), strict=True)),
        rejection=rejected,
        model_id=ordered,
        model_name=models.get(ordered, "the model you named"),
        verification=shown,
    )


def _statuses(names: list[str], skipped: set[str], rejected: ReceiptError | None) -> list[str]:
    """Outcome by check: those before the failed one passed, those after it were not run."""
    failed = len(names) if rejected is None else names.index(rejected.check)
    outcome = ["passed"] * failed + ["failed"] + ["not run"] * len(names)
    return ["not made" if name in skipped else status for name, status in zip(names, outcome, strict=False)]
