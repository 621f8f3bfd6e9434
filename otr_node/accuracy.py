"""The accuracy gate: does a model in integers choose as it does in fp32?

Fixed point serves most models well and some badly, and no bound says which: it depends on where a
model's values lie. Before a model is served in the portable lane, its choices on a built-in text
are therefore compared with those of the native fp32 lane, once; what was found is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from otr_core.encoding import json_object, parse_json
from otr_core.errors import AccuracyError, InputError
from otr_core.files import write_bytes
from otr_core.lane.formats import LOGIT
from otr_node.checkpoint import torch_threads
from otr_node.native import NativeModel
from otr_node.portable import PortableModel

LEAST_AGREEMENT = 0.95
"""Least part of all positions at which both lanes choose the same token. A little less than what
bfloat16, in which most models are served, reaches against fp32 on SmolLM2 (0.97, data/results)."""
POSITIONS = 256
"""Most positions that are compared."""
_DISTINCT = 16  # a tokenizer that knows fewer of the text's words gets token ids beside them

TEXT = """The lighthouse keeper wrote three letters that winter. The first went to the harbour office and asked for
oil, rope and a new brass lens, because the old one had cracked in the frost. The second was for her brother, who
built clocks in a town two days inland and had promised to visit when the roads were dry. She told him about the
seals on the rocks below, about the ship that had signalled with green lamps and never answered, and about the book
of tides, in which somebody before her had entered 17 storms with the date, the height of the water and a small drawing
of a bird. The third letter had no address. In it she listed what she had learned: that fog is louder than wind, that
bread keeps longer in a tin box than in a cloth, that a light which turns every 12 seconds is easier to trust than one
that does not move at all, and that numbers written down at once are worth more than numbers remembered. When the
mail boat came in March, the first two letters were already out of date."""
"""The text; ours."""


@dataclass(frozen=True)
class Accuracy:
    """How a model in the portable lane agrees with itself in fp32.

    Attributes:
        model_id: of the model in the portable lane, hex. text_sha256: of the token ids compared.
        positions: compared. agree: at how many both lanes choose the same token.
        worst_logit, mean_logit: distance of two logits, the largest and the mean.
    """

    model_id: str
    text_sha256: str
    positions: int
    agree: int
    worst_logit: float
    mean_logit: float

    @property
    def agreement(self) -> float:
        """Part of the positions at which both choose the same token."""
        return self.agree / self.positions

    def describe(self) -> str:
        """One line for whoever serves the model."""
        return (
            f"accuracy: {100 * self.agreement:.1f} % of {self.positions} choices are those of fp32 "
            f"(logits differ by {self.worst_logit:.3g} at most, by {self.mean_logit:.2g} in the mean)"
        )


def text_ids(model: PortableModel) -> list[int]:
    """The built-in text as token ids of a model, as many as are compared and its context holds."""
    ids, a = list(model.tokenizer.encode(TEXT)), model.architecture
    if len(set(ids)) < _DISTINCT:
        ids = [17 * number % a.vocab for number in range(POSITIONS)]
    return ids[: min(POSITIONS, a.context)]


def measure_accuracy(exact: PortableModel, native: NativeModel) -> Accuracy:
    """Compare both lanes on the built-in text, each fed in one piece."""
    ids = text_ids(exact)
    ours = exact.session().feed_batch([ids], all_logits=True)[0].numpy() / 2.0**LOGIT
    with torch_threads(native.threads), torch.inference_mode():
        theirs = native.module(input_ids=torch.tensor([ids], device=native.device)).logits[0].float().cpu().numpy()
    gaps = np.abs(ours - theirs)
    agree = int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    return Accuracy(exact.manifest.model_id.hex(), _digest(ids), len(ids), agree, float(gaps.max()), float(gaps.mean()))


def check_accuracy(
    exact: PortableModel,
    native: Callable[[], NativeModel],
    store: Path,
    *,
    report: Callable[[str], None],
    least: float = LEAST_AGREEMENT,
) -> Accuracy:
    """The accuracy of a model that is about to be served; measured if it is not kept already.

    Args:
        native: loads the same model in the native fp32 lane; called only to measure.
        store: folder of what was measured before, a file for each model id.

    Raises:
        AccuracyError: fewer choices than ``least`` agree; the model is not to be served.
    """
    path, digest = store / f"{exact.manifest.model_id.hex()}.json", _digest(text_ids(exact))
    found = _kept(path, exact.manifest.model_id.hex(), digest)
    how = "kept"
    if found is None:
        how, found = "measured now", measure_accuracy(exact, native())
        try:
            store.mkdir(parents=True, exist_ok=True)
            write_bytes(path, json.dumps(asdict(found), sort_keys=True).encode() + b"\n")
        except (OSError, InputError) as error:
            how = f"measured now, not kept: {error}"
    report(f"{found.describe()}; {how}")
    if found.agreement < least:
        raise AccuracyError(found.agreement, least, found.positions)
    return found


def _digest(ids: list[int]) -> str:
    return hashlib.sha256(np.array(ids, "<i4").tobytes()).hexdigest()


def _kept(path: Path, model_id: str, digest: str) -> Accuracy | None:
    """What was measured of this model on this text; None if nothing was, or what is there is something
    else."""
    try:
        found = Accuracy(**json_object(parse_json(path.read_bytes(), what=str(path)), what=str(path)))
        whole = type(found.positions) is int and type(found.agree) is int and 0 <= found.agree <= found.positions
        known = (found.model_id, found.text_sha256) == (model_id, digest)
        return found if known and whole and found.positions else None
    except (OSError, InputError, TypeError):
        return None
