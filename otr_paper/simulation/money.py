"""What a query costs, item by item, and who pays each item first. USD a query.

The serving price is machine time: GPUs of one machine, at the median price, over the requests it
finishes at a stated utilisation. Provers are rented by the machine second, as H100s. Gas is bought
on one chain at one price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from otr_core.dispute.profile import own_profile
from otr_core.errors import ParameterError
from otr_paper.claims.cost import gas_usd, h100_usd
from otr_paper.claims.published import Published
from otr_paper.simulation.inputs import OPML_MOVES, Number, Prover
from otr_paper.store.records import Records
from otr_paper.store.records import records as table

PAYERS = ("operator", "user", "watcher")
"""Operator: who serves and proves. User: who asks. Watcher: fishermen, validators, assessors,
whoever repays them."""
CHAINS = {"Base": "gas.base_floor", "L1": "gas.l1_price"}


#: What an ``Item`` holds beside its system.
ItemRow: TypeAlias = tuple[str, str, float, str, str]


@dataclass(frozen=True)
class Item:
    """One part of a query's cost: payer, USD, kind of number, and how it comes about."""

    system: str
    item: str
    payer: str
    usd: float
    kind: str
    how: str


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What the items are computed from, beside the published prices.

    Attributes:
        capacity_per_s: requests a second one machine of ``gpus`` finishes, without confidential
            mode.
        kept: share of that capacity left in confidential mode.
        rate_per_s: requests a second on the network; utilisation: what the machines are loaded to.
        gas_eth: price of a unit of gas, ether. batch_s: seconds between batches.
        commit, verify, move: gas of a batch's root, of one proof's check, of one move in a dispute
            (opML's moves are priced at ours). moves: of one of OTR's disputes.
        proof_usd: price of one proof; rho: share proved by OTR; disputed: share of the answers
            disputed.
        stake_usd: OTR's stake, for which ``capital`` a year is paid. rerun: share of OTR's answers
            fishermen run again.
        judges: of PoQ. judge_s: GPU seconds of one judgement.
    """

    capacity_per_s: float
    gpus: int
    kept: float
    rate_per_s: float
    gas_eth: float
    commit: Number
    verify: Number
    move: Number
    moves: int
    proof_usd: float
    rho: float = 0.01
    disputed: float = 1e-4
    utilisation: float = 0.6
    batch_s: float = float(own_profile().parties.batch_s)
    stake_usd: float = float(own_profile().parties.stake_usd)
    capital: float = 0.10
    rerun: float = 0.01
    judges: int = 3
    judge_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("capacity_per_s", "rate_per_s", "batch_s", "gpus", "disputed", "moves"):
            if not getattr(self, name) > 0:
                raise ParameterError(name, getattr(self, name), "above zero")
        for name in ("kept", "utilisation"):
            if not 0 < getattr(self, name) <= 1:
                raise ParameterError(name, getattr(self, name), "a share in (0, 1]")
        for name in ("gas_eth", "proof_usd", "stake_usd", "capital", "judge_s"):
            if not getattr(self, name) >= 0:
                raise ParameterError(name, getattr(self, name), "zero or more")


def gas_price_eth(published: Published, chain: str) -> float:
    """Ether a unit of gas: the floor of the L2, the middle of the usual range of L1.

    Raises:
        ParameterError: an unknown chain.
    """
    if chain not in CHAINS:
        raise ParameterError("chain", chain, f"one of {', '.join(CHAINS)}")
    low, high = published.bounds(CHAINS[chain], "ETH")
    return (low + high) / 2


def proof_price_usd(published: Published, prover: Prover) -> float:
    """Machine time of one proof at the price of one H100."""
    return h100_usd(published, prover.machine_s)


def items(published: Published, prices: Prices) -> list[Item]:
    """Every item of the four systems and of plain serving."""
    serving = h100_usd(published, prices.gpus / (prices.capacity_per_s * prices.utilisation))
    per_batch = max(1.0, prices.rate_per_s * prices.batch_s)

    def gas(amount: float) -> float:
        return gas_usd(published, amount, prices.gas_eth)

    signature = published.number("evm.ecrecover", "gas") + 65 * published.number("evm.calldata_nonzero", "gas")
    quote = sum(published.bounds("quote.onchain", "gas")) / 2
    capital = prices.stake_usd * prices.capital / (prices.rate_per_s * 365 * 86400)
    commit = gas(prices.commit.value) / per_batch
    judging = prices.judges * h100_usd(published, prices.judge_s)

    # Every item as (its name, who pays it, USD a query, kind of number, how it comes about).
    machines = f"{prices.gpus} H100 at {prices.utilisation:.0%} of a capacity of {prices.capacity_per_s:.2f} req/s"
    inference = ("inference", "operator", serving, "simulated", machines)
    root = f"{prices.commit.value:,.0f} gas a batch of {per_batch:.0f}"
    posting = ("commitment", "operator", commit, prices.commit.kind, root)

    def disputes(moves: int) -> ItemRow:
        how = f"one in {1 / prices.disputed:,.0f}, {moves} moves of {prices.move.value:,.0f} gas"
        return "disputes", "watcher", prices.disputed * moves * gas(prices.move.value), prices.move.kind, how

    lost = serving * (1 / prices.kept - 1)
    again = f"{prices.rerun:.0%} of the answers run again"
    of_stake = f"{prices.capital:.0%} a year on {prices.stake_usd:,.0f} USD"
    of_proofs = f"{prices.rho:.2%} of {prices.proof_usd:.3g} USD"
    check, of_checks = gas(prices.verify.value), f"{prices.verify.value:,.0f} gas"
    judges = f"{prices.judges} judgements of {1000 * prices.judge_s:.2f} ms on a GPU"
    lists, scores = commit * (1 + prices.judges), f"the batch's root and {prices.judges} score lists"
    daily, quoted = gas(quote) / (prices.rate_per_s * 86400), "a TDX quote checked on chain once a day"
    by_system: Mapping[str, Sequence[ItemRow]] = {
        "centralised": [inference],
        "OTR": [
            inference,
            ("confidential mode", "operator", lost, "simulated", f"{1 - prices.kept:.1%} of the capacity lost"),
            posting,
            ("key registration", "operator", daily, "recomputed", quoted),
            ("signature check", "user", gas(signature), "recomputed", "ecrecover and its 65 bytes, each answer"),
            ("sampled proofs", "operator", prices.rho * prices.proof_usd, "recomputed", of_proofs),
            ("proof checks", "operator", prices.rho * check, prices.verify.kind, f"{prices.rho:.2%} of {of_checks}"),
            ("interest on the stake", "operator", capital, "recomputed", of_stake),
            ("fishermen", "watcher", prices.rerun * serving, "simulated", again),
            disputes(prices.moves),
        ],
        "opML": [
            inference,
            posting,
            ("validator", "watcher", serving, "simulated", "one honest validator runs every answer again"),
            disputes(OPML_MOVES),
        ],
        "ZKML": [
            inference,
            ("proofs", "operator", prices.proof_usd, "recomputed", "a proof for every answer"),
            ("proof checks", "user", check, prices.verify.kind, f"{of_checks} an answer"),
        ],
        "PoQ": [
            inference,
            ("judges", "watcher", judging, "recomputed", judges),
            ("commitment", "operator", lists, prices.commit.kind, scores),
        ],
    }
    return [Item(system, *row) for system, rows in by_system.items() for row in rows]


def by_payer(records: Sequence[Mapping[str, Any]]) -> Records:
    """USD a query by system and payer, with the total: records of system, payer, usd; from those of
    ``Item``."""
    rows = []
    for system in dict.fromkeys(record["system"] for record in records):
        own = [record for record in records if record["system"] == system]
        for payer in PAYERS:
            rows.append((system, payer, sum(record["usd"] for record in own if record["payer"] == payer)))
        rows.append((system, "all", sum(record["usd"] for record in own)))
    return table("system, payer, usd", rows)


def total_usd(found: list[Item], system: str) -> float:
    """What a query of one system costs all payers together."""
    return sum(item.usd for item in found if item.system == system)
