"""What others set, beside what the formulas here ask for: rates, penalties and bonds of published systems.

Each row asks a formula for a number that a system states, from that system's own other numbers. The
factor is stated over computed; where it is not one, the reason says what the two count differently.
"""

from __future__ import annotations

from otr_core.economics.detection import cheats_for_detection
from otr_core.economics.deterrence import min_rho, min_stake
from otr_core.economics.game import least_bounty
from otr_paper.claims.published import Published
from otr_paper.store.records import Records, records

ALONE = {"dispute_cost_usd": 0.0, "slash_fraction": 1.0, "phi": 0.0, "w": 0.0}
"""Sampling alone, the whole stake slashed, nothing of it back."""
COLLUDING = 0.1
"""Share of PoSP's nodes that collude, for its statement of a rate."""


def published_settings(published: Published) -> Records:
    """Records of system, setting, stated, computed, factor, reason."""
    rate, threshold = published.number("pocket.request_probability", "1"), published.number("pocket.threshold", "count")
    penalty, failures = published.number("pocket.penalty", "count"), published.number("pocket.failures", "count")
    pocket = {"gain_usd": threshold, "price_usd": threshold, "d": 1.0, **ALONE}
    tested, lost = published.number("rat.tests", "1"), published.number("rat.penalty", "USD")
    share = published.number("posp.rate", "1")
    # PoSP's honest node earns R and stakes S; the rule names only their sum, in costs of one answer.
    at_stake = float(min_stake(gain_usd=1.0, price_usd=0.0, rho=share, d=1.0 - COLLUDING, **ALONE))
    root, leaf = published.number("op.bond_root", "ETH"), published.number("op.bond_leaf", "ETH")
    growth = (leaf / root) ** (1.0 / published.number("op.max_depth", "count"))
    every = (leaf * growth - root) / (growth - 1.0)
    low, high = published.bounds("gas.l1_price", "ETH")
    rows = (
        (
            "Pocket Network",
            "failures until 99 % are caught",
            failures,
            float(cheats_for_detection(probability=0.99, rho=rate)),
            "the law of the text gives 16.008, which it rounds down and which needs one more to reach 99 %",
        ),
        (
            "Pocket Network",
            "penalty at the largest claim not always proven",
            penalty,
            float(min_stake(rho=rate, **pocket)),
            "the text takes back what 16 false claims earn, which 99 % do not exceed; that no false claim pays in "
            "expectation asks for three",
        ),
        (
            "Pocket Network",
            "share of such claims to prove at that penalty",
            rate,
            float(min_rho(stake_usd=penalty, **pocket)),
            "the rate is chosen to make proofs four times rarer, not to deter at least cost",
        ),
        (
            "RAT",
            "penalty times rate of tests, USD an epoch, over the cost of a validator a month",
            tested * lost,
            published.number("rat.cost", "USD") / 10.0,
            "both are bounds; an epoch is shorter than a month, so that its cost is smaller still (hypothesis H7: "
            "a test has to cost more than a look)",
        ),
        (
            "PoSP",
            "share run again, with the stake that this share asks for",
            share,
            float(min_rho(gain_usd=1.0, price_usd=0.0, stake_usd=at_stake, d=1.0 - COLLUDING, **ALONE)),
            f"its rule is the case without fishermen here; it then stakes {at_stake:.0f} times the cost of an answer",
        ),
        (
            "OP dispute game",
            "gas price behind its bonds, over the middle of the usual range, ETH",
            published.number("gas.op_bond_assumption", "ETH"),
            (low + high) / 2.0,
            f"bonds repay gas at a price of 2024; one claim at every depth locks {every:,.0f} ETH whatever is at stake",
        ),
        (
            "Kailua",
            "collateral of a proposer, USD",
            published.number("kailua.collateral", "USD"),
            least_bounty(check_cost_usd=published.number("kailua.proof", "USD"), planted_rate=1.0),
            "it repays whoever proves a fault, with a tip; who looks and finds none is paid nothing, and what a false "
            "proposal earns is not asked",
        ),
    )
    return records("system, setting, stated, computed, factor, reason", [(*r[:4], r[2] / r[3], r[4]) for r in rows])
