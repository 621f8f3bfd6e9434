"""Check a receipt file against what its reader knows: models, the prompt, nonces seen before.

``verify_receipt`` decides whether the parts of a file belong together. They can, and the file may
still answer an order that nobody gave, for a model that its author made up. Only the reader's own
knowledge helps against that.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core.errors import DataError, InputError, ReceiptError
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.tee import EvidencePolicy
from otr_core.poea.verify import CHECKS, verify_receipt

REGISTERED = "registered-model"
"""The check made before all others: the job orders a model that the reader knows."""
PROMPT = "prompt"
"""The check made after all others, if the reader names a prompt: it is the one in the receipt."""


@dataclass(frozen=True)
class FileVerdict:
    """Every check's outcome for one receipt file.

    Attributes:
        table: name, status (passed, failed, not run) and meaning of each check, in their order.
        rejection: the check that failed, with what it found and expected; None when the file is
            accepted.
        model_id: the ordered model, hex.
        model_name: its name; "the model you named" when the list of models has none.
        simulated: whether the evidence is of a simulated TEE, which shows nothing about hardware;
            also True when the file is rejected before its evidence is accepted.
        nonce: that of an accepted order, to be remembered as seen; None when rejected.
        prompt_checked: whether the file's prompt was compared with the reader's own.
    """

    table: tuple[tuple[str, str, str], ...]
    rejection: ReceiptError | None
    model_id: str
    model_name: str
    simulated: bool
    nonce: bytes | None
    prompt_checked: bool

    @property
    def accepted(self) -> bool:
        return self.rejection is None

    @property
    def line(self) -> str:
        """The verdict in one sentence, with what it rests on."""
        if self.rejection is not None:
            return f"rejected by check {self.rejection}"
        tee = "simulated TEE: nothing is shown about hardware" if self.simulated else "hardware TEE"
        text = f"accepted: {self.model_name}, {tee}"
        if not self.prompt_checked:  # only the model was compared with what the reader knows
            text += "; the order is taken as the file states it (hold your own against it: --prompt, --model-id)"
        return text

    def document(self) -> dict[str, Any]:
        """The verdict as a JSON object: what ``otr verify --json`` prints."""
        rejected = self.rejection
        return {
            "accepted": rejected is None,
            "check": rejected.check if rejected else None,
            "found": str(rejected.found) if rejected else None,
            "expected": str(rejected.expected) if rejected else None,
            "tee": "simulated" if self.simulated else "hardware",
            "model_id": self.model_id,
            "table": [list(row) for row in self.table],
            "line": self.line,
        }


def registered_models(data: Path) -> dict[str, str]:
    """Model id (hex) → name and lane, from ``models.toml`` in the folder ``data``.

    Raises:
        DataError: the file is absent or not a list of models.
    """
    path = data / "models.toml"
    try:
        entries = tomllib.loads(path.read_text("utf-8"))["model"]
        return {entry["model_id"]: f"{entry['name']} ({entry['lane']})" for entry in entries}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of models ({error!r}); restore it from git") from error


def verify_file(
    raw: bytes,
    *,
    policy: EvidencePolicy,
    as_of: int,
    models: Mapping[str, str],
    model_id: bytes | None = None,
    prompt: str | None = None,
    seen: Collection[bytes] = (),
) -> FileVerdict:
    """Check a receipt file and tell every check's outcome. The checks, in their order:

    1. The ordered model is the one the reader named (``model_id``), or one of ``models`` when none
       is named.
    2. The file passes ``verify_receipt``, and its nonce is not among those ``seen``.
    3. The prompt in the file is the reader's, when one is given.

    Args:
        as_of: instant of the check, Unix seconds. models: see ``registered_models``.

    Raises:
        InputError: the file is unreadable, or its prompt is sealed while one is to be compared.
    """
    file = load_receipt_file(raw)
    ordered = file.job.model_id.hex()
    wanted = sorted(models) if model_id is None else [model_id.hex()]
    rejected, simulated, nonce = None, True, None
    try:
        # 1. The ordered model is the one the reader named (``model_id``), or one of ``models`` when
        # none is named.
        if ordered not in wanted:
            raise ReceiptError(REGISTERED, f"model {ordered}", f"one of {', '.join(wanted)}")

        # 2. The file passes ``verify_receipt``, and its nonce is not among those ``seen``.
        verification = verify_receipt(file, policy=policy, as_of=as_of, seen=seen)
        simulated = verification.simulated

        # 3. The prompt in the file is the reader's, when one is given.
        if prompt is not None:
            _check_prompt(file, prompt)
        nonce = verification.nonce
    except ReceiptError as error:
        rejected = error
    meanings = {REGISTERED: "the job orders a model the verifier knows", **CHECKS}
    if prompt is not None:
        meanings[PROMPT] = "the prompt in the receipt is the one the verifier sent"
    statuses = _statuses(list(meanings), rejected)
    return FileVerdict(
        table=tuple((name, statuses[name], meaning) for name, meaning in meanings.items()),
        rejection=rejected,
        model_id=ordered,
        model_name=models.get(ordered, "the model you named"),
        simulated=simulated,
        nonce=nonce,
        prompt_checked=prompt is not None,
    )


def _statuses(names: list[str], rejected: ReceiptError | None) -> dict[str, str]:
    """Outcome by check: those before the failed one passed, those after it were not run."""
    passed = len(names) if rejected is None else names.index(rejected.check)
    return dict(zip(names, [*["passed"] * passed, "failed", *["not run"] * len(names)], strict=False))


def _check_prompt(file: ReceiptFile, prompt: str) -> None:
    shown = file.query.to_json()
    if "plain" not in shown:
        raise InputError("--prompt: the query in this receipt is sealed; only its client can open it")
    found = shown["plain"]["prompt"]
    if found != prompt:
        raise ReceiptError(PROMPT, repr(found), repr(prompt))
