"""Rewards and aggregations against hand calculation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import InputError, ParameterError
from otr_paper.poq import rewards

UNIT = st.floats(0, 1)


def test_original_reward_by_hand():
    assert rewards.reward_share(0.5, alpha=2.0, upper=1.0) == pytest.approx(math.exp(-1))
    assert rewards.reward_share(1.0, alpha=2.0, upper=1.0) == 1.0


@given(st.lists(UNIT, min_size=1, max_size=9), st.floats(0, 50))
def test_assessor_shares_sum_to_one_and_favour_closeness(values, beta):
    shares = rewards.assessor_shares(values, beta=beta)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares >= 0).all()
    order = np.argsort(np.abs(np.array(values) - np.mean(values)))
    assert (np.diff(shares[order]) <= 1e-12).all()


def test_assessor_shares_by_hand_and_equal_when_all_agree():
    weights = np.exp(-4 * np.array([0.25, 0.0, 0.25]))
    assert rewards.assessor_shares([0.0, 0.5, 1.0], beta=4.0) == pytest.approx(weights / weights.sum())
    assert rewards.assessor_shares([0.3] * 4, beta=9.0) == pytest.approx([0.25] * 4)


def test_cost_aware_reward_by_hand_and_refusing_what_is_not_normalised():
    assert rewards.cost_aware_reward([0.8, 0.4], [1.0, 0.5], alpha=1.0, beta=0.5) == pytest.approx([0.3, 0.15])
    for quality, cost in (([8.0], [0.1]), ([0.5], [-0.1])):
        with pytest.raises(ParameterError):
            rewards.cost_aware_reward(quality, cost, alpha=1.0, beta=1.0)
    with pytest.raises(InputError):
        rewards.cost_aware_reward([], [], alpha=1.0, beta=1.0)


@given(st.lists(UNIT, min_size=5, max_size=5), st.floats(0, 1))
def test_fewer_than_half_move_the_median_no_further_than_the_honest_scores(values, boost):
    honest = np.array(values)[:, None]
    moved = rewards.median(rewards.boosted(honest, (3, 4), boost))[0]
    assert min(values[:3]) <= moved <= max(values[:3])


def test_aggregations_by_hand():
    column = np.array([[0.0], [0.2], [0.3], [0.4], [1.0]])
    assert rewards.mean(column) == pytest.approx([0.38])
    assert rewards.median(column) == pytest.approx([0.3])
    assert rewards.trimmed_mean(0.2)(column) == pytest.approx([0.3])
    assert rewards.trimmed_mean(0.0)(column) == pytest.approx([0.38])
    with pytest.raises(ParameterError):
        rewards.trimmed_mean(0.5)


def test_trust_follows_the_published_update_and_saturates():
    scores_in = np.array([[0.2], [0.8]])
    consensus, history = rewards.trust_weighted(scores_in, rate=0.1, low=0.1, high=2.0)
    assert consensus == pytest.approx([0.5])
    assert history[0] == pytest.approx([1 + 0.1 * (0.5 - 0.3)] * 2)
    far = np.tile([[0.0], [0.0], [1.0]], (1, 400))
    _, history = rewards.trust_weighted(far)
    assert history[-1][0] == 2.0
    assert history[-1][2] == pytest.approx(0.1)
    near = np.tile([[0.5], [0.5], [0.9]], (1, 400))
    consensus, history = rewards.trust_weighted(near)
    assert (history[-1] == 2.0).all()
    assert consensus[-1] == pytest.approx(near[:, -1].mean())


def test_boost_stops_at_the_top_and_leaves_the_others_alone():
    assert rewards.boosted(np.array([[0.9], [0.5]]), (0,), 0.4)[:, 0].tolist() == [1.0, 0.5]
