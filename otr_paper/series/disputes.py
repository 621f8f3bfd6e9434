"""Plain rows for the figures and tables of notebook 03, from played disputes and from closed
forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from otr_core.dispute.records import Terms
from otr_core.lane import program as pr
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, Place
from otr_paper.claims.published import Published
from otr_paper.store.records import Records, records
from otr_paper.studies import dispute_costs

MOST_GAS, MOST_JUDGED_GAS = 3_000_000, 1_000_000
"""Bars for a whole dispute and for the judgement of its last step, which we set ourselves."""

#: Level of a dispute -> what a unit of it is called.
WHAT = dict(
    SEED="answer",
    TRACE="token × layer",
    OPERATORS="operator",
    TILES="tile",
    ELEMENT="element",
    STEPS="step",
    LEAF="one step",
)


def narrowing(path: Sequence[Mapping[str, Any]], moves: Sequence[Mapping[str, Any]]) -> Records:
    """One record a move: level, the disputed node's share of its level's tree (left, right), units
    left, gas so far.

    Args:
        path: where the game stood before each move. moves: gas of every transaction; the last
            ``len(path)`` are the game's.
    """
    own = moves[len(moves) - len(path) :]
    spent, rows = sum(move["gas"] for move in moves) - sum(move["gas"] for move in own), []
    for number, (step, move) in enumerate(zip(path, own, strict=True), 1):
        height, index, size = step["height"], step["index"], step["size"]
        left, end = index << height, min((index + 1) << height, size)
        end = left + step["units"] if "units" in step else end
        spent += move["gas"]
        who = (number, step["by"], step["move"], WHAT[step["level"]])
        rows.append((*who, left / size, end / size, end - left, size, move["gas"], spent, move["calldata_bytes"]))
    return records("move, by, name, level, left, right, units, of, gas, gas_so_far, bytes", rows)


def gas_by_size(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Whole disputes at the sizes of two models, from the result ``dispute_gas``: with the leaves of the
    states in the challenger's hands, and where it walks down to the false one."""
    rows = []
    for size in found["walked"]:
        told = {name: found[name][size] for name in ("rounds", "calldata_bytes")} | {"gas": found[f"gas_{size}"]}
        for leaves, row in (("told", told), ("kept back", found["walked"][size])):
            rows.append(
                {"model": size, "leaves": leaves, **{name: row[name] for name in ("rounds", "gas", "calldata_bytes")}}
            )
    return rows


def by_operator(disputes: Sequence[Mapping[str, Any]]) -> Records:
    """What the disputes about each operator took, whatever value was drawn in it: records of cheat, disputes,
    delta, rounds, gas_least, gas_most (of the whole dispute), gas_leaf, published (values) and inferences (of
    either player); the largest of each, where nothing else is said."""
    rows = []
    for cheat in dict.fromkeys(row["cheat"] for row in disputes):
        found = [row for row in disputes if row["cheat"] == cheat]
        gas = [row["gas_dispute"] for row in found]
        delta, rounds, leaf, published = (
            max(row[name] for row in found) for name in ("delta", "rounds", "gas_leaf", "published")
        )
        extra = max(row[f"inferences_{who}"] for row in found for who in ("fisherman", "operator"))
        rows.append((cheat, len(found), delta, rounds, min(gas), max(gas), leaf, published, extra))
    return records("cheat, disputes, delta, rounds, gas_least, gas_most, gas_leaf, published, inferences", rows)


def gas_ledger(disputes: Sequence[Mapping[str, Any]], published: Published) -> Records:
    """Per move over many disputes: how often, least and most gas, bytes; the dearest in USD at L1
    and L2 prices."""
    by_move: dict[str, list[Mapping[str, Any]]] = {}
    for dispute in disputes:
        for move in dispute["moves"]:
            by_move.setdefault(move["move"], []).append(move)
    prices = gas_prices(published)
    rows = []
    for name, found in by_move.items():
        gas = [move["gas"] for move in found]
        most_bytes = max(move["calldata_bytes"] for move in found)
        rows.append((name, len(found), min(gas), max(gas), most_bytes, *(max(gas) * usd for usd in prices.values())))
    return records(", ".join(("move, count, gas_least, gas_most, calldata_most", *prices)), rows)


def fisherman_ledger(found: Mapping[str, Any], terms: Terms, published: Published) -> Records:
    """What a fisherman pays, risks and earns in the whole disputes of the result ``dispute_gas``, in USD:
    gas of its own calls, the bond that it loses where it is wrong, and its share of the least stake where
    it is right, by model and chain."""
    own = ("challenge", *dispute_costs.POINTING, "pay_reward", "withdraw")
    ether = published.number("gas.eth_usd", "USD")
    bond, reward = (
        ether * wei / 10**18
        for wei in (
            terms.bond_wei,
            terms.least_stake_wei * terms.slash_bps * terms.reward_bps // 10**8,
        )
    )
    rows = []
    for model, moves in found["moves"].items():
        gas = sum(each[1] for each in moves if each[0] in own)
        for chain, usd in gas_prices(published).items():
            rows.append((model, chain, gas, gas * usd, bond + gas * usd, reward - gas * usd, gas * usd / reward))
    return records("model, chain, gas, gas_usd, lost_if_wrong_usd, earned_if_right_usd, gas_over_reward", rows)


def gas_prices(published: Published) -> dict[str, float]:
    """USD per gas: L1 at the higher of its usual prices, Arbitrum and Base at their floors; ether
    as cited."""
    ether = published.number("gas.eth_usd", "USD") * 1e-9
    gwei = {
        "Ethereum L1": published.bounds("gas.l1_price", "gwei")[1],
        "Arbitrum": published.number("gas.arbitrum_floor", "gwei"),
        "Base": published.number("gas.base_floor", "gwei"),
    }
    return {chain: price * ether for chain, price in gwei.items()}


def growth(d: Dims, lengths: Sequence[int], arity_bits: Sequence[int], like: Mapping[str, Any]) -> Records:
    """Rounds and bytes of a dispute about one value of a layer's output, in closed form.

    Args:
        lengths: fed tokens. arity_bits: log2 k.
        like: a played dispute (position, layer, element, positions, layers); the same place in
            longer answers.
    """
    # A row of a data frame holds numpy's numbers; the closed forms count with Python's.
    position, element, before = (int(like[name]) for name in ("position", "element", "positions"))
    back, share = before - position, like["layer"] / like["layers"]
    steps = d.intermediate // d.tile
    rows = []
    for bits, length in product(arity_bits, lengths):
        position = max(length - back, 0)
        place = Place(LAYER, position, round(share * d.layers), pr.LayerOperator.OUTPUT, element, steps, 0)
        rounds = dispute_costs.expected_rounds(d, length, pr.LayerOperator.OUTPUT, position, bits)
        size = dispute_costs.expected_bytes(d, length, place, bits) + dispute_costs.opening_bytes(d, place)
        rows.append((2**bits, length, rounds, dispute_costs.most_rounds(d, length, bits), size))
    return records("k, tokens, rounds, bound, bytes", rows)


def verdict_times(d: Dims, positions: int, terms: Terms, clocks_s: Sequence[int]) -> Records:
    """Longest time to a verdict by clock and k, days, from a batch's commitment; and from a game's
    opening."""
    rows = []
    for clock, bits in product(clocks_s, (1, 4)):
        rounds = dispute_costs.most_rounds(d, positions, bits)
        own = replace(terms, clock_s=clock, arity_bits=bits, increment_s=min(300, clock))
        game, verdict = dispute_costs.longest_game_s(own, rounds), dispute_costs.longest_verdict_s(own, rounds)
        rows.append((clock / 3600, 2**bits, game / 86_400, verdict / 86_400))
    return records("clock_h, k, game_days, verdict_days", rows)


def systems(published: Published, payload: Mapping[str, Any]) -> Records:
    """Ours beside published dispute systems: unit, period, bond, arithmetic. Theirs are cited."""
    best = min(payload["arity_sweep"], key=lambda row: row["gas_dispute"])
    ours = f"{best['rounds']} rounds, {best['gas_dispute']:,} gas at k = {best['arity']} (measured)"

    def cited(key: str, unit: str, name: str = "") -> str:
        return f"{published.number(key, unit):g} {name or unit}"

    bond = f"{cited('op.bond_root', 'ETH')} to {cited('op.bond_leaf', 'ETH')}"
    agatha, tao = (f"overhead {cited(f'{name}.overhead', 'pct', '%')} (cited, abstract)" for name in ("agatha", "tao"))
    opml = f"MNIST challenge {cited('opml.mnist_challenge', 'min')} (cited)"
    bold = f"{cited('bold.period', 'd')}, up to two"
    op = f"{cited('op.max_depth', 'count', 'levels')} (cited)"
    by, none, parallel = "contract", "not published", "window + 2 clocks, any number of challengers"
    rows = (
        ("this project", "one accumulation step", by, parallel, "flat", ours),
        ("opML", "VM instruction", by, "7 d (rollup practice)", none, opml),
        ("Arbitrum BoLD", "WASM instruction", by, bold, cited("bold.bond", "ETH"), "all against all (cited)"),
        ("OP fault game", "MIPS instruction", by, cited("op.window", "d"), bond, op),
        ("Agatha", "basic operation", by, "as Truebit", none, agatha),
        ("TAO", "operator", "bound, or a vote", "window", none, tao),
    )
    return records("system, disputed unit, judged by, period, bond, note", rows)
