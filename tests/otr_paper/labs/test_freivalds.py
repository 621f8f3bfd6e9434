"""The audit accepts what is exact and nothing else; each premise of its error is checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import ParameterError
from otr_core.spotcheck.proof.field import P
from otr_paper.benches.spotchecks import measure_audit
from otr_paper.labs import freivalds
from otr_paper.store.results import read_result

OLD_PRIME = 1_048_573
"""The modulus of an earlier audit here, far below the products: its multiples passed always."""


def exact(x, w):
    """X·Wᵀ in Python's integers."""
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in w.tolist()] for row in x.tolist()]


@given(st.integers(0, 2**32 - 1))
def test_an_exact_product_always_passes_and_an_element_off_by_anything_fails(seed):
    rng = np.random.default_rng(seed)
    positions, rows, columns = rng.integers(1, 9, 3)
    columns += int(rng.choice([0, freivalds.LANES]))  # with and without whole vectors
    w = rng.integers(-(2**18), 2**18, (rows, columns)).astype(np.int32)
    x = rng.integers(-(2**22), 2**22, (positions, columns))
    audit, good = freivalds.prepare(w, rng), x @ w.T
    assert audit.holds(x, good).all()
    for step in (1, -1, OLD_PRIME, 2**32, 2**32 - 1):
        wrong = good.copy()
        wrong[-1, -1] += step
        assert list(audit.holds(x, wrong)) == [True] * (positions - 1) + [False]


def test_the_sums_are_those_of_integers_at_full_size():
    rng = np.random.default_rng(1)
    w = rng.integers(-(2**31), 2**31, (3, 5000)).astype(np.int32)
    x = rng.integers(-(2**18), 2**18, (2, 5000))
    audit = freivalds.prepare(w, rng)
    assert audit.reach == max(sum(map(abs, row)) for row in w.tolist())
    fold = [sum(int(r) * v for r, v in zip(audit.challenge, column, strict=True)) % P for column in w.T.tolist()]
    assert fold == audit.folded.tolist()
    out = np.empty(2, np.uint64)
    freivalds.weigh_rows(x, audit.folded, out)
    assert out.tolist() == [sum(a * b for a, b in zip(row, fold, strict=True)) % P for row in x.tolist()]
    assert audit.holds(x, np.array(exact(x, w))).all()


def test_every_output_false_is_never_accepted():
    """What passed 3,200 times of 3,200 while the modulus was below the products."""
    accepted = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        w = rng.integers(-(2**17), 2**17, (48, 64)).astype(np.int32)
        x = rng.integers(-(2**20), 2**20, (32, 64))
        audit, good = freivalds.prepare(w, rng), x @ w.T
        by_multiples = good + OLD_PRIME * rng.choice([-1, 1], good.shape) * rng.integers(1, 2**20, good.shape)
        forced = rng.integers(-(2**20), 2**20, good.shape)  # a row of the operator's own choice …
        near = good + (forced - good) // OLD_PRIME * OLD_PRIME  # … and what the old modulus held for the same
        for claimed in (good + 1, by_multiples, forced, near):
            accepted += int(audit.holds(x, claimed).sum())
    assert accepted == 0


def test_a_value_that_differs_by_the_modulus_is_out_of_bounds():
    """The one false value that the equation takes: the field's own modulus lower."""
    most = 2**63 - 2**32 + 5
    w, x = np.array([[1]], np.int32), np.array([[most]])
    audit = freivalds.prepare(w, np.random.default_rng(0))
    assert audit.holds(x, x).all()
    same = np.array([[most - P]])
    left, right = np.empty(1, np.uint64), np.empty(1, np.uint64)
    freivalds.weigh_rows(x, audit.challenge, left)
    freivalds.weigh_rows(same, audit.challenge, right)
    assert left == right
    assert not audit.holds(x, same).any()
    assert not audit.holds(-x, -same).any()


def test_rows_that_could_reach_half_the_modulus_are_no_audits():
    w = np.array([[2**31 - 1, 2**31 - 1]], np.int32)
    audit = freivalds.prepare(w, np.random.default_rng(0))
    for x in (np.array([[2**31 + 1, 0]]), np.array([[0, -(2**31) - 1]]), np.array([[-(2**63), 0]])):
        with pytest.raises(ParameterError, match="below p"):
            audit.holds(x, np.zeros((1, 1), np.int64))
    assert audit.holds(np.array([[2**30, 1]]), np.array([[(2**30 + 1) * (2**31 - 1)]])).all()


def test_sums_of_another_shape_are_refused_before_any_is_read():
    audit = freivalds.prepare(np.ones((3, 4), np.int32), np.random.default_rng(0))
    x = np.zeros((2, 4), np.int64)
    for rows, shape in ((x, (2, 2)), (x, (2, 9)), (x, (1, 3)), (x, (3, 3)), (x[:, :3], (2, 3))):
        with pytest.raises(ParameterError, match="shape"):
            audit.holds(rows, np.zeros(shape, np.int64))
    assert audit.holds(x, np.zeros((2, 3), np.int64)).all()


def test_a_secret_that_is_known_protects_nothing():
    """The third premise, which no check can see: the operator must not know r."""
    rng = np.random.default_rng(3)
    w, x = rng.integers(-9, 9, (2, 4)).astype(np.int32), rng.integers(-9, 9, (1, 4))
    audit = freivalds.Audit(
        np.array([5, 3], np.uint64), np.array([(5 * a + 3 * b) % P for a, b in w.T.tolist()], np.uint64), 400
    )
    assert audit.holds(x, x @ w.T + np.array([3, -5])).all()
    assert not freivalds.prepare(w, rng).holds(x, x @ w.T + np.array([3, -5])).any()


def test_the_audit_is_measured_on_a_model_with_its_head(tiny_operator):
    model = tiny_operator.model
    found = measure_audit(model, given=3, chosen=2, seeds=[1])
    assert found["weights"] == sum(
        matrix.shape[0] * matrix.shape[1] for name, matrix in model.matrices.items() if name != "embed"
    )
    assert found["false_rows"] == 2 * (4 * 4 * model.dims.layers + 2)
    assert found["false_accepted"] == 0
    assert found["bytes"] == 8 * found["accumulators"]


def test_the_stored_measurement_has_every_product_and_refused_every_false_row(project):
    _, found = read_result(project.results, "spot_freivalds")
    assert found["weights"] == 134_479_872  # SmolLM2's, the head's 28 million among them
    assert found["false_accepted"] == 0 < 30_000 < found["false_rows"]
    assert len(found["audit_s_all"]) >= 3
    assert found["soundness_error"] == 1 / P
    assert found["audit_s"] + found["again_s"] - found["products_s"] > 0
    assert found["bytes"] > 80e6
