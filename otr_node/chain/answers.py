"""A folder of answers, as a client or a fisherman with mystery orders keeps it, and an operator too.

Three files belong to one answer, whatever their common name: ``NAME.order.json``, the owner's copy
of the order; ``NAME.receipt.json``, what came back; ``NAME.place.json``, where the receipt was
committed. Whatever of it is not there yet is waited for; a file that cannot be read is said once and
left alone. A fourth one, ``NAME.leaves``, is the operator's to give: with it a challenger names the
state that differs, and a dispute has fewer rounds. Nothing rests on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core import merkle
from otr_core.dispute.duties import LeafPlace
from otr_core.dispute.state import RegisteredModel
from otr_core.errors import OtrError, ReceiptError
from otr_core.files import read_input
from otr_core.poea import load_order
from otr_core.poea.client import PlacedOrder, open_response
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.message import Response
from otr_core.poea.trace import Trace
from otr_node.chain.places import load_place
from otr_node.commitment import ModelTrees
from otr_node.generate import generate
from otr_node.run import DisputedModel, Run

_UNKNOWN_SEED = bytes(32)  # where the response cannot be read: the court is asked for the seed


@dataclass(frozen=True)
class OwnModel:
    """A model at hand, in a lane that is judged to the bit, with the trees that its disputes are judged by."""

    model: DisputedModel
    trees: ModelTrees

    @property
    def id(self) -> bytes:
        """The model's id."""
        return self.model.manifest.model_id

    @property
    def registered(self) -> RegisteredModel:
        """What a court knows of it."""
        return RegisteredModel(self.trees.dims, self.trees.weights_root, self.trees.tables_root, self.trees.stop_ids)


@dataclass(frozen=True)
class AnswerFiles:
    """One answer of a folder.

    Attributes:
        name: of its files. placed: the order. file: the receipt file. place: where it was committed;
            None: not known yet. leaves: hashes of the leaves of the states, as many as the receipt
            says, as the operator has handed them over; none where it has not. Whether they are those
            of the receipt, ``case`` finds.
    """

    name: str
    placed: PlacedOrder
    file: ReceiptFile
    place: LeafPlace | None
    leaves: tuple[bytes, ...] = ()

    @property
    def response(self) -> Response | None:
        """What the response says; None: nothing that its client can read."""
        try:
            return open_response(self.file, self.placed)
        except ReceiptError:
            return None

    def claimed_run(self, own: OwnModel) -> Run | None:
        """The model's run of the tokens of the response; None: they are no answer that it could have
        given."""
        said, d = self.response, own.trees.dims
        if said is None or not all(token < d.vocab for token in said.token_ids):
            return None
        if len(self.placed.said.prompt_ids) + len(said.token_ids) > d.context:
            return None
        return self._run(own, said.token_ids, said.trace_seed)

    def own_run(self, own: OwnModel) -> Run:
        """What a challenger runs: the tokens of the response if they give the roots of the receipt;
        else the order, with the tokens that the model chooses."""
        claimed, receipt = self.claimed_run(own), self.file.receipt
        if claimed is not None:
            made = claimed.trace
            if (made.states_root, made.tokens_root) == (receipt.states_root, receipt.tokens_root):
                return claimed
        said = self.response
        seed, order = said.trace_seed if said else _UNKNOWN_SEED, self.placed.order
        chosen = generate(own.model, self.placed.said.prompt_ids, order.decoding, order_id=order.id).token_ids
        return self._run(own, chosen, seed)

    def _run(self, own: OwnModel, tokens: tuple[int, ...], seed: bytes) -> Run:
        said, order = self.placed.said, self.placed.order
        about: dict[str, Any] = {"prompt_seed": said.prompt_seed, "order_id": order.id}
        return Run(own.model, own.trees, said.prompt_ids, tokens, seed, order.decoding, **about)


def answers_in(folder: Path, unreadable: Callable[[str, OtrError], None]) -> Iterator[AnswerFiles]:
    """The answers of a folder whose order and receipt are there.

    Args:
        unreadable: is told the name of an answer whose files cannot be used, and why.
    """
    for path in sorted(folder.glob("*.order.json")):
        name = path.name.removesuffix(".order.json")
        receipt, place = folder / f"{name}.receipt.json", folder / f"{name}.place.json"
        if not receipt.exists():
            continue
        try:
            placed = load_order(read_input(path, what="an order (JSON)"))
            file = load_receipt_file(read_input(receipt, what="a receipt file (JSON)"))
            where = load_place(read_input(place, what="a place (JSON)")) if place.exists() else None
        except OtrError as error:
            unreadable(name, error)
            continue
        yield AnswerFiles(name, placed, file, where, _leaves(folder / f"{name}.leaves", file.receipt.trace.leaves))


def dump_leaves(trace: Trace) -> bytes:
    """The file of the hashes of a trace's leaves, 32 bytes each, one after the other."""
    return b"".join(map(merkle.leaf_hash, trace.leaves))


def _leaves(path: Path, count: int) -> tuple[bytes, ...]:
    """The hashes in such a file; none where it is not there or is not of ``count`` hashes."""
    try:
        raw = path.read_bytes() if path.stat().st_size == 32 * count else b""
    except OSError:
        raw = b""
    return tuple(raw[at : at + 32] for at in range(0, len(raw), 32))
