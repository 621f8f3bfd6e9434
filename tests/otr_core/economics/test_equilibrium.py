"""The game against brute force: payoffs outcome by outcome, every deviation tried, nashpy for one
fisherman."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest

from otr_core import economics as eco
from otr_core.economics import game as eq
from otr_core.errors import ParameterError

POINTS_PER_REGIME = 1000


def draw(draws):
    """A random game; wide enough that every regime turns up."""
    return {
        "gain_usd": 10 ** draws.uniform(-3, 1),
        "price_usd": 10 ** draws.uniform(-3, 0),
        "stake_usd": 10 ** draws.uniform(-1, 2),
        "slash_fraction": draws.uniform(0.05, 1),
        "dispute_cost_usd": draws.choice([0.0, 0.1]),
        "rho": draws.choice([0.0, 0.01, draws.uniform()]),
        "d": draws.uniform(0.5, 1),
        "w": draws.uniform(0.3, 1),
        "fishermen": int(draws.integers(1, 9)),
        "check_cost_usd": 10 ** draws.uniform(-4, -0.5),
        "reward_share": draws.uniform(0.1, 1),
        "planted_rate": draws.choice([0.0, draws.uniform(0, 0.2)]),
        "bounty_usd": draws.uniform(0, 3),
    }


def operator_gain_from_cheating(game, x):
    """Cheating minus honest pay, over the number of others who check and all chance moves, one by
    one."""
    # The operator's own fisherman may be the one that is paid for the catch: the worst case for deterrence.
    n, slashed = game["fishermen"], game["slash_fraction"] * game["stake_usd"]
    caught_pay = game["reward_share"] * slashed - slashed - game["dispute_cost_usd"]
    total = 0.0
    for checkers in range(n + 1):
        weight = math.comb(n, checkers) * x**checkers * (1 - x) ** (n - checkers)
        win = game["w"] if checkers else 0.0
        for sampled, p_sampled in ((True, game["rho"] * game["d"]), (False, 1 - game["rho"] * game["d"])):
            for convicted, p_convicted in ((True, win), (False, 1 - win)):
                pay = caught_pay if sampled or convicted else game["price_usd"]
                total += weight * p_sampled * p_convicted * (pay + game["gain_usd"])
    return total - game["price_usd"]


def fisherman_gain_from_checking(game, x, y):
    """Checking minus not checking for one fisherman; the other n-1 check at rate x, the operator
    cheats at y."""
    n = game["fishermen"]
    prize = y * (1 - game["rho"] * game["d"]) * game["w"]
    prize *= game["reward_share"] * game["slash_fraction"] * game["stake_usd"]
    prize += game["planted_rate"] * game["bounty_usd"]
    others = sum(
        math.comb(n - 1, k) * x**k * (1 - x) ** (n - 1 - k) * prize / (k + 1) for k in range(n)
    )  # fmt: skip
    return others - game["check_cost_usd"]


def assert_best_responses(game, found):
    scale = game["gain_usd"] + game["price_usd"] + game["stake_usd"] + game["bounty_usd"]
    operator = operator_gain_from_cheating(game, found.check_rate)
    fisherman = fisherman_gain_from_checking(game, found.check_rate, found.cheat_rate)
    tolerance = 1e-9 * scale
    assert operator <= tolerance if found.cheat_rate == 0 else True
    assert operator >= -tolerance if found.cheat_rate == 1 else True
    assert abs(operator) <= tolerance if 0 < found.cheat_rate < 1 else True
    assert fisherman <= tolerance if found.check_rate == 0 else True
    assert fisherman >= -tolerance if found.check_rate == 1 else True
    assert abs(fisherman) <= tolerance if 0 < found.check_rate < 1 else True


@pytest.fixture(scope="module")
def solved_games():
    """At least a thousand solved random games of every strict regime."""
    draws = np.random.default_rng(20251223)
    games = {regime: [] for regime in eq.REGIMES if regime != eq.BOUNDARY}
    for _ in range(200_000):
        game = draw(draws)
        found = eco.equilibrium(**game)
        if len(games[found.regime]) < POINTS_PER_REGIME:
            games[found.regime].append((game, found))
        if all(len(found) == POINTS_PER_REGIME for found in games.values()):
            return games
    raise AssertionError({regime: len(found) for regime, found in games.items()})


@pytest.mark.parametrize("regime", [regime for regime in eq.REGIMES if regime != eq.BOUNDARY])
def test_nobody_gains_by_deviating(solved_games, regime):
    assert len(solved_games[regime]) == POINTS_PER_REGIME
    for game, found in solved_games[regime]:
        assert found.unique
        assert_best_responses(game, found)


@pytest.mark.parametrize("regime", [regime for regime in eq.REGIMES if regime != eq.BOUNDARY])
def test_played_games_agree_within_their_99_per_cent_intervals(solved_games, regime):
    """Each of the thousand games is played 4,000 times; detection and the fishermen's prizes lie in
    their intervals."""
    draws, plays = np.random.default_rng(99), 4000
    inside, prizes = [], []
    for game, found in solved_games[regime]:
        checkers = draws.binomial(game["fishermen"], found.check_rate, plays)
        sampled = draws.random(plays) < game["rho"] * game["d"]
        won = (checkers > 0) & (draws.random(plays) < game["w"])
        share = (sampled | won).mean()
        half = 2.576 * math.sqrt(found.detection * (1 - found.detection) / plays)
        inside.append(abs(share - found.detection) <= half + 1 / plays)
        # What all who check earn together, against n x times the expected part of one of them.
        cheats = draws.random(plays) < found.cheat_rate
        slashed = game["slash_fraction"] * game["stake_usd"] * game["reward_share"]
        planted = draws.random(plays) < game["planted_rate"]
        paid = cheats * won * ~sampled * slashed + planted * (checkers > 0) * game["bounty_usd"]
        one = fisherman_gain_from_checking(game, found.check_rate, found.cheat_rate) + game["check_cost_usd"]
        expected = game["fishermen"] * found.check_rate * one
        if (paid > 0).sum() > 50:  # rarer prizes make the normal interval too narrow
            prizes.append(abs(paid.mean() - expected) <= 2.576 * paid.std() / math.sqrt(plays))
    # 99 % intervals: of a thousand, fewer than 980 inside would be a 6-sigma event.
    assert np.mean(inside) > 0.98
    assert not prizes or np.mean(prizes) > 0.96


def test_no_other_symmetric_equilibrium(solved_games):
    """Scan all check rates: at each the operator's best reply and the fishermen's reply to it must
    disagree."""
    grid = np.linspace(0, 1, 401)
    for regime, games in solved_games.items():
        for game, found in games[:60]:
            stable = []
            for x in grid:
                operator = operator_gain_from_cheating(game, x)
                # The operator's reply is 0 or 1 except where it is indifferent, between two grid
                # points at most.
                y = 1.0 if operator > 0 else 0.0
                fisherman = fisherman_gain_from_checking(game, x, y)
                good = (x == 0 and fisherman <= 0) or (x == 1 and fisherman >= 0)
                if good:
                    stable.append((x, y))
            corner = found.check_rate in (0.0, 1.0) and found.cheat_rate in (0.0, 1.0)
            expected = [(found.check_rate, found.cheat_rate)] if corner else []
            assert stable == expected, (regime, game)


def test_mixed_regime_satisfies_both_indifferences(solved_games):
    for _, found in solved_games[eq.MIXED]:
        assert found.detection == pytest.approx(found.threshold, rel=1e-9)
        assert 0 < found.check_rate <= 1
        assert 0 <= found.cheat_rate <= 1


def test_one_fisherman_against_nashpy(solved_games):
    import nashpy

    checked = 0
    for regime, games in solved_games.items():
        for game, found in [pair for pair in games if pair[0]["fishermen"] == 1][:40]:
            cheat = [game["price_usd"] + operator_gain_from_cheating(game, x) for x in (1.0, 0.0)]
            operator = np.array([[game["price_usd"]] * 2, cheat])
            fisherman = np.array([[fisherman_gain_from_checking(game, 0.0, y), 0.0] for y in (0.0, 1.0)])
            pairs = list(nashpy.Game(operator, fisherman).support_enumeration())
            assert len(pairs) == 1, regime
            (honest, cheats), (check, _) = pairs[0]
            assert (cheats, check) == pytest.approx((found.cheat_rate, found.check_rate), abs=1e-9)
            assert honest + cheats == pytest.approx(1)
            checked += 1
    assert checked > 80


def test_worked_example():
    """n = 5, rho d = 0.01, tau = 0.2 give x = 0.0417."""
    found = eco.equilibrium(
        gain_usd=0.2, price_usd=0.0, stake_usd=2.0, slash_fraction=1.0, dispute_cost_usd=0.0, rho=0.01, d=1.0, w=1.0,
        fishermen=5, check_cost_usd=1e-4, reward_share=0.5,
    )  # fmt: skip
    assert found.regime == eq.MIXED
    assert found.check_rate == pytest.approx(0.0417, abs=5e-5)
    assert found.detection == pytest.approx(0.2)


# A game whose threshold is exactly 1/2 in binary floats: of 12 slashed, half comes back.
HALF = {
    "gain_usd": 4.0, "price_usd": 1.0, "stake_usd": 12.0, "slash_fraction": 1.0, "dispute_cost_usd": 1.0, "d": 1.0,
    "w": 1.0, "fishermen": 2, "check_cost_usd": 0.25, "reward_share": 0.5,
}  # fmt: skip


def test_boundary_between_dominant_and_mixed_is_exact():
    assert eco.equilibrium(**HALF, rho=0.5).threshold == 0.5
    at, above, below = (eco.equilibrium(**HALF, rho=rho) for rho in (0.5, np.nextafter(0.5, 1), np.nextafter(0.5, 0)))
    assert (at.regime, at.unique, at.cheat_rate) == (eq.BOUNDARY, False, 0.0)
    assert above.regime == eq.HONEST_DOMINANT
    assert below.regime == eq.MIXED
    assert below.check_rate < 1e-12


def test_boundary_of_planted_faults_is_exact():
    # Two fishermen check at 1/2 when the prize is c / h(1/2) = 0.25 / 0.75; someone checks with
    # 3/4; D = 3/4 at rho 0.
    planted = {**HALF, "rho": 0.0, "planted_rate": 1.0}
    watched = eco.equilibrium(**planted, bounty_usd=1.0)
    assert (watched.regime, watched.check_rate, watched.cheat_rate) == (eq.HONEST_WATCHED, 1.0, 0.0)
    few = eco.equilibrium(**planted, bounty_usd=0.25)
    assert (few.regime, few.check_rate > 0) == (eq.MIXED, True)
    # Planted faults alone make two fishermen check at 2 (1 - c/prize); D = 1/2 needs a rate of 1 -
    # 1/sqrt 2.
    needed = 0.25 / (1 - (1 - math.sqrt(0.5)) / 2)
    assert eco.equilibrium(**planted, bounty_usd=needed * 1.0001).regime == eq.HONEST_WATCHED
    assert eco.equilibrium(**planted, bounty_usd=needed * 0.9999).regime == eq.MIXED


def test_boundary_of_full_checking_is_exact():
    weak = {**HALF, "rho": 0.0}
    at, above, below = (eco.equilibrium(**{**weak, "w": w}) for w in (0.5, np.nextafter(0.5, 1), np.nextafter(0.5, 0)))
    assert (at.regime, at.check_rate, at.unique) == (eq.BOUNDARY, 1.0, False)
    assert above.regime == eq.MIXED
    assert (below.regime, below.check_rate) == (eq.ALWAYS_CHEAT, 1.0)
    dear = eco.equilibrium(**{**weak, "w": 0.5, "check_cost_usd": 2.0})
    assert (dear.regime, dear.unique) == (eq.ALWAYS_CHEAT, True)
    assert dear.check_rate < 1.0


def test_check_rate_boundaries_are_exact():
    rate = {"check_cost_usd": 0.25, "fishermen": 4}
    assert eq.check_rate(prize_usd=1.0, **rate) == 1.0
    assert eq.check_rate(prize_usd=np.nextafter(1.0, 0), **rate) < 1.0
    assert eq.check_rate(prize_usd=0.25, **rate) == 0.0
    assert eq.check_rate(prize_usd=0.2500001, **rate) > 0.0
    assert eq.check_rate(prize_usd=5.0, check_cost_usd=0.25, fishermen=0) == 0.0


def test_planted_faults_hold_a_look_up_to_the_claims_they_are_shared_among():
    for looks in (1, 4):
        needed = eq.least_bounty(check_cost_usd=0.00055, planted_rate=0.001, claims=looks)
        assert needed == pytest.approx(0.55 * looks)
        x = eq.check_rate(prize_usd=0.001 * needed * (1 + 1e-9), check_cost_usd=0.00055, fishermen=4)
        assert (x == 1.0) if looks == 4 else (0.0 < x < 1e-6)
        assert eq.check_rate(prize_usd=0.001 * needed * (1 - 1e-9), check_cost_usd=0.00055, fishermen=4) < x
    assert eq.least_bounty(check_cost_usd=0.1, planted_rate=0.0) == math.inf
    assert eq.least_bounty(check_cost_usd=0.0, planted_rate=0.0) == 0.0


def test_dear_checking_leaves_the_cheat_alone():
    dear = eco.equilibrium(**{**HALF, "check_cost_usd": 100.0}, rho=0.1)
    assert (dear.regime, dear.cheat_rate, dear.check_rate) == (eq.ALWAYS_CHEAT, 1.0, 0.0)
    # y = 1 exactly: c x n = reward [1 - (1-x)^n] with the mixed x; just above it the operator
    # always cheats.
    mixed = eco.equilibrium(**HALF, rho=0.0)
    at_one = HALF["check_cost_usd"] / mixed.cheat_rate
    assert eco.equilibrium(**{**HALF, "check_cost_usd": at_one * (1 - 1e-9)}, rho=0.0).regime == eq.MIXED
    assert eco.equilibrium(**{**HALF, "check_cost_usd": at_one * (1 + 1e-9)}, rho=0.0).regime == eq.ALWAYS_CHEAT


def test_extremes():
    assert eco.equilibrium(**{**HALF, "fishermen": 0}, rho=0.0).regime == eq.ALWAYS_CHEAT
    assert eco.equilibrium(**{**HALF, "fishermen": 0}, rho=1.0).regime == eq.HONEST_DOMINANT
    assert eco.equilibrium(**{**HALF, "gain_usd": 0.0}, rho=0.01).regime == eq.HONEST_DOMINANT
    assert eco.equilibrium(**{**HALF, "gain_usd": 0.0}, rho=0.0).regime == eq.BOUNDARY
    assert eco.equilibrium(**{**HALF, "gain_usd": np.inf}, rho=1.0).regime == eq.ALWAYS_CHEAT
    free = eco.equilibrium(**{**HALF, "check_cost_usd": 0.0}, rho=0.0)
    assert (free.regime, free.check_rate, free.unique) == (eq.HONEST_WATCHED, 1.0, False)
    assert eco.equilibrium(**{**HALF, "reward_share": 0.0}, rho=0.0).regime == eq.ALWAYS_CHEAT


@pytest.mark.parametrize(
    ("field", "bad"),
    [("fishermen", -1), ("fishermen", 2.5), ("check_cost_usd", -1), ("reward_share", 2), ("planted_rate", 2),
     ("bounty_usd", -1), ("rho", 1.5), ("stake_usd", 0)],
)  # fmt: skip
def test_bad_input_names_the_field(field, bad):
    game = {**HALF, "rho": 0.5, "planted_rate": 0.1, "bounty_usd": 1.0}
    eco.equilibrium(**game)
    with pytest.raises(ParameterError) as error:
        eco.equilibrium(**{**game, field: bad})
    assert error.value.field == field


def test_published_inspection_games(outside_file):
    """Fudenberg and Tirole's inspection game and Felten's checker threshold as special cases of
    ours."""
    known = json.loads(outside_file("vectors/game-theory/known_results.json").read_text())
    for case in known["fudenberg_tirole_inspection"]["examples"]:
        wage, effort, inspection = case["w"], case["g"], case["h"]
        # Shirking saves the effort g; an inspected shirker is not paid w: price w, no stake worth
        # mentioning. The inspector's prize for a caught shirker is the wage it saves.
        tiny = 1e-12
        found = eco.equilibrium(
            gain_usd=effort, price_usd=wage, stake_usd=wage, slash_fraction=tiny, dispute_cost_usd=0.0, rho=0.0, d=1.0,
            w=1.0, fishermen=1, check_cost_usd=inspection * tiny, reward_share=1.0,
        )  # fmt: skip
        assert found.check_rate == pytest.approx(float(Fraction(case["P_inspect"])), rel=1e-9)
        assert found.cheat_rate == pytest.approx(float(Fraction(case["P_shirk"])), rel=1e-9)
    for case in known["felten_cheater_checking"]["examples"]:
        cost, prize = case["C"], case["R"] + case["L"]
        threshold = float(Fraction(case["threshold"]))
        for rate, checks in ((threshold * (1 + 1e-9), 1.0), (threshold * (1 - 1e-9), 0.0)):
            assert eq.check_rate(prize_usd=rate * prize, check_cost_usd=cost, fishermen=1) == checks
