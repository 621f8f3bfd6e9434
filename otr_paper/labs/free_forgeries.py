"""Forged proofs of a whole answer by freer provers than those of ``forgeries``: several places at once whose
changes cancel in a sum, other weights or another token with everything recomputed, weights that are not the
committed ones, and any message of the transcript replaced.

After its lie each prover is as honest as it can be, so that the check that refuses it is the one that finds
the lie; a replaced message is also tried in a proof whose other messages stay, as whoever only edits files has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from otr_core.errors import AnswerProofError
from otr_core.lane.dims import Matrix
from otr_core.spotcheck.proof.claims import Weights
from otr_core.spotcheck.proof.field import ONE, Ext, P, Words
from otr_core.spotcheck.proof.transcript import Channel
from otr_node.portable import PortableModel
from otr_node.proof.model_cells import WeightOpening
from otr_node.proof.prover import AnswerProver
from otr_node.proof.witness import Witness
from otr_paper.labs.forgeries import SEEN_ONLY, CellForger, Forger, OnDemand, Prove
from otr_paper.labs.forging_ground import ForgingGround, FreeForgery, ground_of, say_witness

KINDS = {
    "row": "two values of one row, one more and one less by as much",
    "positions": "likewise, of two positions",
    "layers": "likewise, of two layers or sites",
    "columns": "two columns of one relation, whose changes cancel in it",
    "product": "two factors of a product, so that one value of it stays",
    "limbs": "two numbers, each carried wrongly from limb to limb, and each limb's sum stays",
    "counts": "one entry of a table counted once more, and another once less",
    "weights": "other weights run to the end, their answer signed, and claimed as themselves or as the ordered ones",
    "copied": "a layer's witness taken from another layer",
    "token": "another token chosen, what follows computed from it, and the choice's numbers made to fit",
    "opened": "other weights against the commitment: the committed cells opened, or their own under their own tree",
    "cancelled": "two claims about matrices that are false by as much, one more and one less",
    "edited": "one message is another, and all others stay",
    "answered": "one message is another, and the prover goes on honestly from it",
}
JOINT = ("row", "positions", "layers", "columns", "product", "limbs", "counts")
PARTS = ("joint", "runs", "edited", "answered")
"""Of a round: several places at once; other weights, tokens and openings; and messages."""
ALTERED = ("random", "one", "replayed")
"""How a message is another: all of it drawn, one number of it, or that of another answer's proof."""
_PRODUCTS = {Matrix.QKV: "normed", Matrix.GATE_UP: "normed", Matrix.OUT: "mixed", Matrix.DOWN: "product"}


# --- several places at once


def joint_places(forger: Forger, rng: np.random.Generator) -> Iterator[FreeForgery]:
    """Changes that cancel, of every column that has two such places; nothing is computed from them."""
    s, honest = forger.sizes, forger.witness()

    def with_steps(steps: list[tuple[str, tuple[int, int, int], int]]) -> Prove:
        numbers = {name: own.copy() for name, own in honest.numbers.items()}
        for name, place, step in steps:
            numbers[name][place] += step
        return lambda channel: forger.speak(forger.prover(channel), Witness(numbers, honest.facts))

    def place(name: str) -> tuple[int, int, int]:
        rows, positions, values = s.columns[name].shape
        row, t = int(rng.integers(rows)), int(rng.integers(1 if positions > 1 else 0, positions))
        return row, t, int(rng.integers(t + 1 if name in SEEN_ONLY else values))

    for name, column in s.columns.items():
        if name.startswith("count"):
            yield FreeForgery("counts", name, forger, _moved_cells(forger, _two_counts(forger, name, rng)))
            continue
        limb = int(rng.integers(column.limbs))
        step = int(rng.integers(1, 1 << (column.widths[:1] or (10,))[0])) << column.shifts[limb]
        for axis, kind in ((2, "row"), (1, "positions"), (0, "layers")):
            first = place(name)
            most = first[1] + 1 if axis == 2 and name in SEEN_ONLY else column.shape[axis]
            least = first[2] if axis == 1 and name in SEEN_ONLY else 0
            others = [at for at in range(least, most) if at != first[axis]]
            if others:
                second = _other(first, axis, int(rng.choice(others)))
                yield FreeForgery(kind, name, forger, with_steps([(name, first, step), (name, second, -step)]))
        if column.limbs > 1 and not column.bounds:
            yield FreeForgery("limbs", name, forger, _moved_cells(forger, _two_carries(forger, name, rng)))
    for name, other, factor in _cancelling(forger):
        at, sign = place(name), int(rng.choice([1, -1]))
        steps = [(name, at, sign), (other, at, -sign * factor)]
        yield FreeForgery("columns", f"{name} {other}", forger, with_steps(steps))
    for matrix, source in _PRODUCTS.items():
        row, t, _ = place(source)
        layer = row // 2 if source == "normed" else row
        row = min(2 * layer + (matrix is Matrix.GATE_UP), s.sites - 2) if source == "normed" else row
        layer = min(layer, s.d.layers - 1)
        own = forger.model.matrix(matrix, layer).dense()
        k, m = (int(at) for at in rng.choice(own.shape[1], 2, replace=False))
        j = int(rng.integers(len(own)))
        steps = [(source, (row, t, k), int(own[j, m])), (source, (row, t, m), -int(own[j, k]))]
        yield FreeForgery("product", matrix.name.lower(), forger, with_steps(steps))


def _other(place: tuple[int, int, int], axis: int, at: int) -> tuple[int, int, int]:
    row, t, j = (at if number == axis else own for number, own in enumerate(place))
    return row, t, j


def _cancelling(forger: Forger) -> list[tuple[str, str, int]]:
    """(column, another, factor): one more of the first and ``factor`` less of the other leave a relation as it is."""
    s = forger.sizes
    found = [("distance", "distance_low", 1 << 15), ("distance", "far", 1), ("gate_index", "gate_low", 8)]
    if s.temperature_milli:
        found += [("chance_index", "chance_far", 1), ("temper_high", "temper_low", 1 << s.limb_bits)]
        found += [("temper_high", "temper_room", 1)]
    rests = [(name, f"{name}_rest") for name in s.columns if f"{name}_rest" in s.columns]
    return found + [(name, rest, 1 << sum(s.columns[rest].widths)) for name, rest in rests]


def _moved_cells(forger: Forger, steps: dict[int, int]) -> Prove:
    def move(flat: np.ndarray) -> None:
        for place, step in steps.items():
            flat[place] = (int(flat[place]) + step) % P

    return lambda channel: forger.speak(forger.prover(channel, CellForger, cells=move), forger.witness())


def _two_carries(forger: Forger, name: str, rng: np.random.Generator) -> dict[int, int]:
    (first, size), column = forger.sizes.cells_of(name), forger.sizes.columns[name]
    limb = int(rng.integers(column.limbs - 1))
    whole = 1 << column.widths[limb]
    found: dict[int, int] = {}
    for at, sign in zip(rng.choice(size, 2, replace=False).tolist(), (1, -1), strict=True):
        found |= {first + limb * size + at: sign * whole, first + (limb + 1) * size + at: -sign}
    return found


def _two_counts(forger: Forger, name: str, rng: np.random.Generator) -> dict[int, int]:
    first, size = forger.sizes.cells_of(name)
    more, less = rng.choice(size, 2, replace=False).tolist()
    return {first + more: 1, first + less: -1}


# --- other weights, other tokens


class _Mixed(AnswerProver):
    """Claims one model's weights and opens another's."""

    def __init__(self, *given: Any, opened: PortableModel) -> None:
        super().__init__(*given)
        self._opened = opened

    def weight_opener(self) -> WeightOpening:
        self.model = self._opened
        self._combined.clear()  # what is opened is honest
        return super().weight_opener()


_LIES = {"dot qkv": 1, "dot out": P - 1}


class _Cancelling(AnswerProver):
    """Says of QKV's weights as much more as it says less of OUT's, and of what they multiply what then follows."""

    def __init__(self, *given: Any, more: int) -> None:
        super().__init__(*given)
        self._more, self._truth, self._said = more, ONE, ONE
        self._next = ""

    def reduce(self, kind: str, claim: Ext, shape: tuple[int, ...], *tables: Any) -> tuple[list[Words], Ext]:
        points, value = super().reduce(kind, claim, shape, *tables)
        if kind in _LIES:
            self._truth = self.evaluated(tables[0], points[0], tables[-1], points[1])
            self._said, self._next = self._truth + self._more * _LIES[kind] % P, "claim"
        return points, value

    def functional(self, name: str, weights: Weights) -> Ext:
        found = super().functional(name, weights)
        if self._next != "claim":
            return found
        self._next = "weights"
        return found * self._truth * _inverse(self._said)

    def weight_value(self, matrix: Matrix, layers: Words, rows: Words, columns: Words) -> Ext:
        found = super().weight_value(matrix, layers, rows, columns)
        self._next, lied = "", self._next == "weights"
        return self._said if lied else found


def _inverse(x: Ext) -> Ext:
    scale = pow(x.a * x.a - 7 * x.b * x.b, -1, P)
    return Ext(x.a * scale % P, -x.b * scale % P)


def other_runs(ground: ForgingGround, forger: Forger, rng: np.random.Generator) -> Iterator[FreeForgery]:
    """Other weights, layers and tokens, everything recomputed."""
    for name, bench in ground.others.items():
        told = ground.told(bench)
        own, other = Forger(ground.served, told, ground.kept), bench.portable
        witness = own.witness(other)

        def prove(channel: Channel, own: Forger = own, witness: Witness = witness, **more: Any) -> None:
            own.speak(own.prover(channel, **more), witness)

        yield FreeForgery("weights", f"{name}, as themselves", own, partial(prove, model=other))
        yield FreeForgery("weights", f"{name}, as the ordered ones", own, prove)
        if ground.kept is not None:
            tree = ground.trees[name]
            yield FreeForgery("opened", f"{name}, their own tree", own, partial(prove, model=other, kept=tree))
            mixed = partial(prove, kind=_Mixed, model=other, opened=own.model)
            yield FreeForgery("opened", f"{name}, the committed cells", own, mixed)
    honest = forger.witness()
    layered = {name: own for name, own in honest.numbers.items() if own.shape[0] == forger.sizes.d.layers}
    both = {name: values[::-1].copy() for name, values in layered.items()}
    for name, values in both.items():
        copied = Witness({**honest.numbers, name: values}, honest.facts)
        yield FreeForgery("copied", name, forger, partial(say_witness, forger, copied))
    everything = Witness({**honest.numbers, **both}, honest.facts)
    yield FreeForgery("copied", "all at once", forger, partial(say_witness, forger, everything))
    for at in range(forger.sizes.answer):
        false = Forger(ground.served, ground.with_token(forger, at, rng), ground.kept)
        for how, witness in _fitted(false):
            yield FreeForgery("token", f"token {at}, {how}", false, partial(say_witness, false, witness))
    if ground.kept is not None:
        for _ in range(4):
            more = int(rng.integers(1, P, dtype=np.uint64))

            def lie(channel: Channel, more: int = more) -> None:
                forger.speak(forger.prover(channel, _Cancelling, more=more), forger.witness())

            yield FreeForgery("cancelled", "qkv out", forger, lie)


def _fitted(forger: Forger) -> Iterator[tuple[str, Witness]]:
    """What a run over false tokens gives, as it is and with the choice's numbers made to fit."""
    s, found = forger.sizes, forger.witness()
    facts, numbers, order = found.facts, found.numbers, np.arange(s.answer)
    assert facts is not None  # its rows are open
    chosen = np.array(forger.tokens[s.prompt :], np.int64)
    yield "as it is", found
    if s.temperature_milli:
        said = dict(facts.choices)
        targets = np.array([u * total >> 53 for u, total in zip(forger.draws, said["chances"].tolist(), strict=True)])
        yield "said to be drawn", Witness(numbers, replace(facts, choices={**said, "before": targets}))
        chance = numbers["chance"].copy()
        chance[0, order, chosen] = np.maximum(targets - said["before"] + 1, chance[0, order, chosen])
        told = {**said, "chance": chance[0, order, chosen], "chances": chance[0].sum(-1)}
        yield "weighed more", Witness({**numbers, "chance": chance}, replace(facts, choices=told))
        return
    room = numbers["room"].copy()
    room[0] = np.maximum(room[0], 0)
    own = {**facts.choices, "room": room[0, order, chosen]}
    yield "no room below nothing", Witness({**numbers, "room": room}, replace(facts, choices=own))
    lack = -np.minimum(numbers["room"][0].min(-1), 0)
    more = -(-lack >> Matrix.HEAD.shift) << Matrix.HEAD.shift
    room = numbers["room"] + more[None, :, None]
    own = {"logit": facts.choices["logit"] + (more >> Matrix.HEAD.shift), "room": room[0, order, chosen]}
    yield "said to be the largest", Witness({**numbers, "room": room}, replace(facts, choices=own))


# --- messages


class MarkedChannel(Channel):
    """Keeps where each message lies in a proof."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[str, int, int]] = []

    def data(self, label: str, size: int, make: Callable[[], bytes]) -> bytes:
        start = self.marks[-1][1] + self.marks[-1][2] if self.marks else 0
        self.marks.append((label, start, size))
        return super().data(label, size, make)


class AlteredChannel(OnDemand):
    """A prover's channel on which message number ``at`` is another; what is said after it follows from it."""

    def __init__(self, prove: Prove, at: int, alter: Callable[[bytes], bytes]) -> None:
        self._at_message, self._alter, self._number = at, alter, 0
        super().__init__(prove)

    def data(self, label: str, size: int, make: Callable[[], bytes]) -> bytes:
        self._number += 1
        here = self._number == self._at_message + 1
        return super().data(label, size, (lambda: self._alter(make())) if here else make)


def altered(message: bytes, how: str, replayed: bytes, rng: np.random.Generator) -> bytes:
    """Another message of as many bytes (``ALTERED``)."""
    if how == "replayed" and replayed != message and len(replayed) == len(message):
        return replayed
    if how == "random" and len(message) % 8 == 0:
        found = rng.integers(0, P, len(message) // 8, dtype=np.uint64).astype("<u8").tobytes()
        if found != message:
            return found
    size = 8 if len(message) % 8 == 0 else 1
    at = int(rng.integers(len(message) // size)) * size
    word = int.from_bytes(message[at : at + size], "little")
    other = (word + int(rng.choice([1, P - 1]))) % P if size == 8 else word ^ 1
    return message[:at] + other.to_bytes(size, "little") + message[at + size :]


def first_and_last(marks: list[tuple[str, int, int]]) -> list[int]:
    """Of each run of messages under one label the first and the last: what lies between is like them."""
    ends = [0, *(at for at in range(1, len(marks)) if marks[at][0] != marks[at - 1][0]), len(marks)]
    return sorted({at for first, end in pairwise(ends) for at in (first, end - 1)})


def _as_far_as_it_goes(forger: Forger, channel: Channel) -> None:
    """An honest prover who has nothing to say where its own altered message asks for more than it has."""
    with suppress(AssertionError, AnswerProofError):
        forger.speak(forger.prover(channel), forger.witness())


# --- a round


def _recorded(forger: Forger) -> MarkedChannel:
    channel = MarkedChannel()
    forger.speak(forger.prover(channel), forger.witness())
    return channel


def forge_freely(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """One part of a round of forged proofs of one answer; a point of a sweep.

    Args:
        config: temperature_milli, mode, part (``PARTS``); turn and turns: which of so many shares of the
            messages is taken, so that several seeds together take each once.

    Returns:
        honest: what refuses a proof that is not changed, which should be nothing. rows: kind, what and
        refused_by of each forged one.
    """
    milli, mode, part = config["temperature_milli"], config["mode"], config["part"]
    ground = ground_of(milli, mode, seed)
    forger = Forger(ground.served, kept=ground.kept)
    rng = np.random.default_rng([seed, milli, PARTS.index(part)])
    own = _recorded(forger)
    honest, rows = forger.verdict(own.proof), []
    if part in ("joint", "runs"):
        attempts = joint_places(forger, rng) if part == "joint" else other_runs(ground, forger, rng)
        for each in attempts:
            rows.append({"kind": each.kind, "what": each.what, "refused_by": each.forger.put(each.prove)[0]})
        return {"honest": honest, "rows": rows}
    other = _recorded(Forger(ground_of(milli, mode, seed + 1).served, kept=ground.kept))
    places = [*range(len(own.marks))] if part == "edited" else first_and_last(own.marks)
    for number in range(config["turn"], len(places), config["turns"]):
        at = places[number]
        label, first, size = own.marks[at]
        how = ALTERED[number // config["turns"] % len(ALTERED)]
        replayed = b"" if at >= len(other.marks) else other.proof[other.marks[at][1] :][: other.marks[at][2]]
        alter = partial(altered, how=how, replayed=replayed, rng=rng)
        if not size:
            continue
        if part == "edited":
            message = alter(own.proof[first : first + size])
            by = forger.verdict(own.proof[:first] + message + own.proof[first + size :])
        else:
            by = forger.put(partial(_as_far_as_it_goes, forger), partial(AlteredChannel, at=at, alter=alter))[0]
        rows.append({"kind": part, "what": label, "refused_by": by})
    return {"honest": honest, "rows": rows}
