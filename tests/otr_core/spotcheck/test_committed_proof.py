"""Proofs for a verifier who holds a commitment to the model and no weight of it: an honest one passes,
and no forged one does.

Forgers are free: they run another model, commit to what they like, and choose each message; from
their lie on they are honest, so that one check alone can find it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otr_core.errors import AnswerProofError
from otr_core.lane.dims import Matrix
from otr_core.lane.sampling import Decoding
from otr_core.spotcheck.proof import verify
from otr_core.spotcheck.proof.committed import COMMITTED, REACH, WeightLayout, check_reach, fed_rows
from otr_core.spotcheck.proof.field import ZERO, Ext, P, dot, eq_table
from otr_core.spotcheck.proof.layout import BELOW_BITS, ROOM_BITS
from otr_core.spotcheck.proof.soundness import POLICY_BITS, errors, soundness_bits
from otr_core.spotcheck.proof.sumcheck import interpolate
from otr_core.spotcheck.proof.transcript import Channel
from otr_core.spotcheck.proof.verify import COMMITTED_HEADER, HEADER
from otr_node.portable import load_portable
from otr_node.proof.answers import commit_for_proofs, prove_answer
from otr_node.proof.model_cells import WeightOpening
from otr_node.proof.prover import AnswerProver
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny
from tests.helpers.answer_proofs import provable, refused, refused_under


@pytest.fixture(scope="module")
def committed(tiny_commitment):
    """What the verifier holds."""
    return tiny_commitment.commitment


@pytest.fixture(scope="module")
def other_model(tmp_path_factory, tiny_portable):
    """The model with one weight of its last layer changed by little, so that it chooses the same tokens."""
    tensors = tiny_tensors(TINY)
    name = f"model.layers.{TINY.layers - 1}.mlp.down_proj.weight"
    tensors[name] = tensors[name].copy()
    tensors[name].flat[5] += 2.0**-9
    other = load_portable(write_tiny(tmp_path_factory.mktemp("other"), TINY, tensors))
    changed = other.matrix(Matrix.DOWN, TINY.layers - 1).dense() != tiny_portable.matrix(Matrix.DOWN, 2).dense()
    assert changed.sum() == 1
    return other


@pytest.fixture(scope="module")
def other_commitment(other_model):
    """The commitment to that model."""
    return commit_for_proofs(other_model, lambda line: None)


def test_an_honest_proof_passes_without_weights_and_is_the_same_bytes_each_time(
    answer, tiny_commitment, committed, committed_proof
):
    found = answer.check_under(committed_proof, committed)
    assert (found.positions, found.tokens) == (answer.sizes.positions, 9)
    assert found.model == committed.digest.hex()
    assert POLICY_BITS <= found.soundness_bits < soundness_bits(answer.sizes)
    given = (answer.model, answer.file, answer.said, answer.response, lambda line: None)
    assert prove_answer(*given, under=tiny_commitment) == committed_proof


def test_a_verifier_with_the_model_says_how_it_knew_it(answer, honest_proof):
    assert answer.check(honest_proof).model == verify.HELD


@pytest.mark.parametrize("words", [1, 12])
def test_answers_of_any_length_and_drawn_ones_are_proven(tiny_portable, tiny_commitment, committed, words):
    for milli in (0, 900):
        asked = " ".join(f"w{3 + at}" for at in range(words))
        answer = provable(tiny_portable, asked, Decoding(3, 1, milli))
        answer.check_under(answer.prove(under=tiny_commitment), committed)


def test_matrices_of_other_shapes_are_opened(tmp_path):
    """Widths whose common power of two is 4, fewer rows than a block has, and several rows of blocks."""
    other = replace(TINY, layers=1, hidden=20, intermediate=132, heads=5, kv_heads=1, head_dim=4, vocab=80)
    model = load_portable(write_tiny(tmp_path, other))
    layout = WeightLayout(model.dims)
    assert layout.block == (64, 4)
    answer, kept = provable(model, "w3 w4", Decoding(3)), commit_for_proofs(model, lambda line: None)
    assert layout.blocks * layout.block_cells <= layout.rows << layout.row_bits
    answer.check_under(answer.prove(under=kept), kept.commitment)


# --- what the verifier knows before any message


def test_a_proof_is_of_one_mode(answer, committed, committed_proof, honest_proof):
    assert refused_under(answer, honest_proof, committed) == "header"
    assert refused(answer, committed_proof) == "header"
    # the other mode's first line does not make it one
    assert refused(answer, HEADER + committed_proof[len(COMMITTED_HEADER) :])
    assert refused_under(answer, COMMITTED_HEADER + honest_proof[len(HEADER) :], committed)


def test_bytes_of_another_form_are_refused(answer, committed, committed_proof):
    assert refused_under(answer, b"", committed) == "header"
    assert refused_under(answer, committed_proof + b"\0", committed) == "length"
    for end in (len(COMMITTED_HEADER) + 31, len(committed_proof) // 2, len(committed_proof) - 1):
        assert refused_under(answer, committed_proof[:end], committed)


def test_a_commitment_belongs_to_the_model_of_the_receipt(answer, committed, committed_proof, other_commitment):
    assert refused_under(answer, committed_proof, replace(committed, model_id=bytes(32))) == "model"
    assert refused_under(answer, committed_proof, other_commitment.commitment) == "model"
    given = (answer.model, answer.file, answer.said, answer.response, lambda line: None)
    with pytest.raises(AnswerProofError) as caught:
        prove_answer(*given, under=other_commitment)
    assert caught.value.check == "model"
    order = replace(answer.file.order, job_id=bytes(32))
    assert refused_under(answer, committed_proof, committed, order=order) == "order"


def test_the_manifests_lane_is_asked_where_no_weights_are_loaded(answer, committed, committed_proof):
    """Of a model that runs in another one; its receipt names the proven lane, or the model's."""
    other = replace(answer.file.model, lane="h100-bf16")
    order = replace(answer.file.order, model_id=other.model_id)
    own = replace(committed, model_id=other.model_id)
    for lane in (answer.file.receipt.lane, other.lane):
        receipt = replace(answer.file.receipt, order_id=order.id, lane=lane)
        file = replace(answer.file, model=other, order=order, receipt=receipt)
        assert refused_under(answer, committed_proof, own, file=file) == "lane"


def test_a_token_that_is_fed_twice_weighs_twice():
    t = np.array([[1, 5], [2, 0], [P - 1, 7]], np.uint64)
    found = fed_rows((3, 1, 3), 5, t)
    assert found.tolist() == [[0, 0], [2, 0], [0, 0], [0, 12], [0, 0]]


@pytest.mark.parametrize("bits", [(30,), (30, 30, 30, 30), ()])
def test_sizes_are_the_manifests(answer, committed, committed_proof, bits):
    assert refused_under(answer, committed_proof, replace(committed, saturation_bits=bits)) == "commitment"


def test_bounds_and_saturations_are_those_that_were_vouched_for(answer, committed, committed_proof):
    """Others are another statement; and bounds that leave a value no place are refused before."""
    lower = replace(committed, saturation_bits=(29, *committed.saturation_bits[1:]))
    assert refused_under(answer, committed_proof, lower)
    least = {"gate": 58, "up": 58, "product": 58, "score": 54, "output": 55, "logits": ROOM_BITS + 16}
    for kind in REACH:
        for bits in (least[kind], 63):
            bound = replace(committed, bound_bits={**committed.bound_bits, kind: bits})
            expected = "mode" if bits > reach(answer.sizes)[kind] else None
            found = refused_under(answer, committed_proof, bound)
            assert expected is None or found == expected


def reach(sizes) -> dict[str, int]:
    """The largest bits that are let pass, by trying."""
    found = {}
    for kind in REACH:
        for bits in range(64):
            try:
                check_reach({**dict.fromkeys(REACH, 0), kind: bits}, sizes)
            except AnswerProofError:
                break
            found[kind] = bits
    return found


def test_how_far_values_may_reach(answer, drawn_answer):
    greedy, drawn = reach(answer.sizes), reach(drawn_answer.sizes)
    assert greedy["logits"] - drawn["logits"] == ROOM_BITS - BELOW_BITS
    assert {name: bits for name, bits in greedy.items() if name != "logits"} == {
        name: bits for name, bits in drawn.items() if name != "logits"
    }
    assert max(greedy.values()) < 63


def test_soundness_holds_the_opening_of_the_weights(answer, committed, committed_proof):
    layout = committed.layout(answer.model.architecture)
    own, more = errors(answer.sizes), errors(answer.sizes, layout)
    assert {name for name in more if name not in own} == {
        f"weights: {name}" for name in ("joining the claims", "proximity of combined rows", "columns drawn")
    }
    bits = soundness_bits(answer.sizes, layout)
    assert bits == pytest.approx(-np.log2(sum(2.0**error for error in more.values())))
    assert bits == answer.check_under(committed_proof, committed).soundness_bits
    assert refused_under(answer, committed_proof, committed, least_bits=bits + 0.01) == "soundness"
    answer.check_under(committed_proof, committed, least_bits=bits - 0.01)


# --- another model


def test_another_models_weights_do_not_open_this_ones_root(answer, tiny_commitment, committed, other_model):
    """A prover who runs the other model throughout, with the tree of this one."""
    forged = answer.prove(under=tiny_commitment, model=other_model, change=unchanged)
    assert refused_under(answer, forged, committed) == "weights columns"


def test_a_root_of_changed_weights_is_refused(answer, committed, other_model, other_commitment):
    """The other model's own root and paths, under the statement that the verifier has."""
    under = replace_hashes(committed, other_commitment)
    forged = answer.prove(under=under, model=other_model, change=unchanged)
    assert refused_under(answer, forged, committed) == "weights columns"


def replace_hashes(committed, other):
    """A commitment beside another's hashes, which no honest prover takes."""
    return type("Beside", (), {"commitment": committed, "hashes": other.hashes})()


def unchanged(name, row, own):
    return own


def test_claims_about_another_models_weights_are_not_those_of_the_cells(
    answer, tiny_commitment, committed, other_model, tiny_portable
):
    """Run with other weights, and opened with the committed ones: the join tells."""

    class Mixed(AnswerProver):
        def weight_opener(self):
            self.model = tiny_portable
            self._combined.clear()  # what is opened is honest
            return super().weight_opener()

    forged = answer.prove(under=tiny_commitment, model=other_model, change=unchanged, prover=Mixed)
    assert refused_under(answer, forged, committed) == "weights join"


# --- messages


class Marked(Channel):
    """Keeps where each message lies in the proof."""

    def __init__(self):
        super().__init__()
        self.marks: list[tuple[str, int, int]] = []
        self.at = 0

    def data(self, label, size, make):
        self.marks.append((label, self.at, size))
        self.at += size
        return super().data(label, size, make)


@pytest.fixture(scope="module")
def marks(answer, tiny_commitment, committed_proof):
    """Messages about the model: (label, first byte, bytes)."""
    channel = Marked()
    assert answer.prove(under=tiny_commitment, channel=channel) == committed_proof
    return [mark for mark in channel.marks if mark[0].startswith("weights ")]


RELATION = {
    "embed": "embedding",
    **{name: f"dot {name}" for name in ("head", "qkv", "out", "gate_up", "down")},
    **{name: f"weights {name}" for name in ("join", "columns")},
    "cells": "weights join",
    "row": "weights opening",
    "paths": "weights columns",
}


def test_a_changed_message_is_refused_by_its_own_check(answer, committed, committed_proof, marks):
    """Of each message the first and the last number."""
    found = {}
    for label, at, size in marks:
        for place in (at, at + size - 8):
            word = (int.from_bytes(committed_proof[place : place + 8], "little") + 1) % P
            forged = committed_proof[:place] + word.to_bytes(8, "little") + committed_proof[place + 8 :]
            found.setdefault(label.removeprefix("weights "), set()).add(refused_under(answer, forged, committed))
    assert set(found) == {matrix.name.lower() for matrix in COMMITTED} | {"join", "cells", "row", "columns", "paths"}
    for name, checks in found.items():
        expected = {"weights code word"} if name == "columns" else {RELATION[name]}
        assert checks == expected, name


def test_numbers_of_another_encoding_are_refused(answer, committed, committed_proof, marks):
    for label, at, _ in marks:
        if label != "weights paths":
            forged = committed_proof[:at] + P.to_bytes(8, "little") + committed_proof[at + 8 :]
            assert refused_under(answer, forged, committed) == "encoding", label


def test_replaced_bytes_anywhere_are_refused(answer, committed, committed_proof, marks):
    rng = np.random.default_rng(11)
    begin = min(at for label, at, _ in marks if label == "weights join")
    for place in rng.integers(begin, len(committed_proof), 24):
        forged = bytearray(committed_proof)
        forged[place] ^= 1 << int(rng.integers(8))
        assert refused_under(answer, bytes(forged), committed), place


# --- free in every message


def opening_of(answer, tiny_commitment, opener: type[WeightOpening]) -> bytes:
    """A proof whose opening of the model is another."""

    class Forger(AnswerProver):
        def weight_opener(self):
            made = super().weight_opener()
            made.__class__ = opener
            made.side = self
            return made

    return answer.prove(under=tiny_commitment, prover=Forger)


def test_columns_of_other_places_are_refused(answer, tiny_commitment, committed):
    class Shifted(WeightOpening):
        def columns_at(self, places):
            return super().columns_at([place ^ 1 for place in places])

        def paths_at(self, places):
            return super().paths_at([place ^ 1 for place in places])

    assert refused_under(answer, opening_of(answer, tiny_commitment, Shifted), committed) == "weights code word"


def test_columns_that_fit_the_row_are_not_under_the_root(answer, tiny_commitment, committed):
    """Of each column two numbers moved so that the combination stays."""

    class Fitted(WeightOpening):
        def combined_row(self, high):
            self.high = high
            return super().combined_row(high)

        def columns_at(self, places):
            found = super().columns_at(places)
            # Σ high · change = 0 over three rows and both words: solved over the base field
            first, second, third = (Ext.of(each) for each in self.high[:3])
            cross = lambda x, y: (x.a * y.b - x.b * y.a) % P  # noqa: E731
            change = cross(second, third), cross(third, first), cross(first, second)
            for row, own in enumerate(change):
                found[:, row] = [(int(value) + own) % P for value in found[:, row]]
            return found

    assert refused_under(answer, opening_of(answer, tiny_commitment, Fitted), committed) == "weights columns"


def inverse(x: Ext) -> Ext:
    norm = (x.a * x.a - 7 * x.b * x.b) % P
    scale = pow(norm, -1, P)
    return Ext(x.a * scale % P, -x.b * scale % P)


def lying_prover(until: str):
    """A prover whose claim about QKV is false; sum-check, cells and row are made to fit up to ``until``."""

    class Lying(AnswerProver):
        def equal(self, check, found, expected):
            """Goes on."""

        def claim_weight(self, matrix, layers, rows, columns):
            found = super().claim_weight(matrix, layers, rows, columns)
            if matrix is Matrix.QKV:
                column, weights, said = self.weight_ledger.numbers[-1]
                self.weight_ledger.numbers[-1] = (column, weights, said + 1)
            return found

        def weight_opener(self):
            made = super().weight_opener()
            made.__class__ = Fitting
            made.side = self
            return made

    class Fitting(WeightOpening):
        def join(self, powers):
            honest, this = super().join(powers), self
            this.powers, this.bound = powers, []
            this.ledger = list(self.side.weight_ledger.numbers)
            self.rounds = honest

            class Rounds:
                claim = sum((power * said for power, (*_, said) in zip(powers, this.ledger, strict=True)), ZERO)

                def message(self):
                    self.values = [Ext.of(each) for each in honest.message()]
                    self.values[0] = self.claim - self.values[1]
                    return np.stack([each.words for each in self.values])

                def bind(self, challenge):
                    honest.bind(challenge)
                    self.claim = interpolate(self.values, challenge)
                    this.left, this.bound = self.claim, [*this.bound, challenge]

            return Rounds()

        def cells_at(self):
            if until == "join":
                return super().cells_at()
            ledger = self.side.weight_ledger
            ledger.numbers[:] = self.ledger
            self.opened = self.left * inverse(ledger.weight_at(self.bound, self.powers))
            return self.opened

        def combined_row(self, high):
            row = super().combined_row(high)
            if until == "row":
                low = eq_table(self.bound[: self._cells.layout.row_bits])
                off = self.opened - dot(row, low)
                row[0] = (Ext.of(row[0]) + off * inverse(Ext.of(low[0]))).words
            return row

    return Lying


@pytest.mark.parametrize(("until", "check"), [("join", "join"), ("cells", "opening"), ("row", "code word")])
def test_a_false_claim_is_found_wherever_its_prover_stops_to_fit(answer, tiny_commitment, committed, until, check):
    """The statement's ledger has a false claim on both sides: the verifier's is made so as well."""

    class Believing(verify.Party):
        def claim_weight(self, matrix, layers, rows, columns):
            found = super().claim_weight(matrix, layers, rows, columns)
            if matrix is Matrix.QKV:
                column, weights, said = self.weight_ledger.numbers[-1]
                self.weight_ledger.numbers[-1] = (column, weights, said + 1)
            return found

    forged = answer.prove(under=tiny_commitment, prover=lying_prover(until))
    with pytest.MonkeyPatch.context() as own:
        own.setattr(verify, "Party", Believing)
        assert refused_under(answer, forged, committed) == f"weights {check}"


@pytest.mark.parametrize("which", ["", "weights "])
def test_a_claim_that_nobody_opens_is_refused(answer, tiny_commitment, committed, which):
    """Both sides leave the opening of the witness or of the model out; the ledger tells."""
    whole = verify.open_claims

    def left_out(party, ledger, root, opener, of=""):
        if of != which:
            whole(party, ledger, root, opener, of)

    with pytest.MonkeyPatch.context() as own:
        own.setattr(verify, "open_claims", left_out)
        forged = answer.prove(under=tiny_commitment)
        assert refused_under(answer, forged, committed) == "ledger"


def test_every_matrix_is_claimed_once_and_its_claim_is_bound(answer, committed, committed_proof):
    seen = []

    class Watched(verify.Party):
        def claim_weight(self, matrix, layers, rows, columns):
            seen.append(matrix)
            return super().claim_weight(matrix, layers, rows, columns)

    with pytest.MonkeyPatch.context() as own:
        own.setattr(verify, "Party", Watched)
        answer.check_under(committed_proof, committed)
    assert sorted(seen) == sorted(COMMITTED)


def test_the_statement_names_the_commitment(answer, tiny_commitment, committed):
    own = verify.proven_statement(answer.file, answer.said, answer.response, committed)
    assert own["model_commitment"] == committed.digest.hex()
    without = verify.proven_statement(answer.file, answer.said, answer.response)
    assert "model_commitment" not in without
    for bound in (without, {**own, "model_commitment": "00" * 32}):
        assert refused_under(answer, answer.prove(under=tiny_commitment, bound=bound), committed)
