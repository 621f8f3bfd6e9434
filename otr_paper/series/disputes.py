"""Plain rows for the figures and tables of notebook 03, from played disputes and from closed forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otr_core.dispute.records import Terms
from otr_core.lane import program as pr
from otr_core.lane.program import Dims
from otr_core.lane.step import LAYER, Place
from otr_paper.claims.published import Published
from otr_paper.studies import dispute_costs

WHAT = {
    "CLAIM": "receipt", "TRACE": "token × layer", "OPERATORS": "operator", "TILES": "tile", "ELEMENT": "element",
    "STEPS": "step", "LEAF": "one step",
}  # fmt: skip


def narrowing(path: Sequence[Mapping[str, Any]], moves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One record a move: level, the disputed node's share of its level's tree (left, right), units left, gas so far.

    Args:
        path: where the game stood before each move. moves: gas of every transaction; the last ``len(path)`` are the
            game's.
    """
    records, spent = [], sum(move["gas"] for move in moves[: len(moves) - len(path)])
    for number, (step, move) in enumerate(zip(path, moves[len(moves) - len(path) :], strict=True), 1):
        height, index, size = step["height"], step["index"], step["size"]
        end = min((index + 1) << height, size)
        spent += move["gas"]
        records.append(
            {
                "move": number, "by": step["by"], "name": step["move"], "level": WHAT[step["level"]],
                "left": (index << height) / size, "right": end / size, "units": end - (index << height), "of": size,
                "gas": move["gas"], "gas_so_far": spent, "bytes": move["calldata_bytes"],
            }
        )  # fmt: skip
    return records


def gas_ledger(disputes: Sequence[Mapping[str, Any]], published: Published) -> list[dict[str, Any]]:
    """Per move over many disputes: how often, least and most gas, bytes; the dearest in USD at L1 and L2 prices."""
    by_move: dict[str, list[Mapping[str, Any]]] = {}
    for dispute in disputes:
        for move in dispute["moves"]:
            by_move.setdefault(move["move"], []).append(move)
    prices = gas_prices(published)
    return [
        {
            "move": name,
            "count": len(found),
            "gas_least": min(m["gas"] for m in found),
            "gas_most": max(m["gas"] for m in found),
            "calldata_most": max(m["calldata_bytes"] for m in found),
            **{chain: max(m["gas"] for m in found) * usd for chain, usd in prices.items()},
        }
        for name, found in by_move.items()
    ]


def gas_prices(published: Published) -> dict[str, float]:
    """USD per gas: L1 at the higher of its usual prices, Arbitrum and Base at their floors; ether as cited."""
    ether = published.number("gas.eth_usd", "USD") * 1e-9
    gwei = {
        "Ethereum L1": published.bounds("gas.l1_price", "gwei")[1],
        "Arbitrum": published.number("gas.arbitrum_floor", "gwei"),
        "Base": published.number("gas.base_floor", "gwei"),
    }
    return {chain: price * ether for chain, price in gwei.items()}


def growth(d: Dims, lengths: Sequence[int], arity_bits: Sequence[int], like: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rounds and bytes of a dispute about one value of a layer's output, in closed form.

    Args:
        lengths: fed tokens. arity_bits: log2 k.
        like: a played dispute (position, layer, element, positions, layers); the same place in longer answers.
    """
    like = {name: int(value) for name, value in like.items()}  # numpy integers have no bit length
    back, share = like["positions"] - like["position"], like["layer"] / like["layers"]
    steps = d.intermediate // d.tile
    records = []
    for bits in arity_bits:
        for length in lengths:
            position = max(length - back, 0)
            place = Place(LAYER, position, round(share * d.layers), pr.LayerOperator.OUTPUT, like["element"], steps, 0)
            records.append(
                {
                    "k": 2**bits,
                    "tokens": length,
                    "rounds": dispute_costs.expected_rounds(d, length, pr.LayerOperator.OUTPUT, position, bits),
                    "bound": dispute_costs.most_rounds(d, length, bits),
                    "bytes": dispute_costs.expected_bytes(d, length, place, bits)
                    + dispute_costs.opening_bytes(d, place),
                }
            )
    return records


def verdict_times(d: Dims, positions: int, terms: Terms, clocks_s: Sequence[int]) -> list[dict[str, Any]]:
    """Longest time to a verdict by clock and k, days, from a batch's commitment; and from a game's opening."""
    records = []
    for clock in clocks_s:
        for bits in (1, 4):
            rounds = dispute_costs.most_rounds(d, positions, bits)
            own = Terms(**{**terms.__dict__, "clock_s": clock, "arity_bits": bits, "increment_s": min(300, clock)})
            records.append(
                {
                    "clock_h": clock / 3600,
                    "k": 2**bits,
                    "game_days": dispute_costs.longest_game_s(own, rounds) / 86_400,
                    "verdict_days": dispute_costs.longest_verdict_s(own, rounds) / 86_400,
                }
            )
    return records


def systems(published: Published, payload: Mapping[str, Any]) -> list[dict[str, str]]:
    """Ours beside published dispute systems: unit, period, bond, arithmetic. Theirs are cited."""
    best = min(payload["arity_sweep"], key=lambda row: row["gas_dispute"])
    row = published

    def cited(key: str, unit: str) -> str:
        return f"{row.number(key, unit):g} {unit}"

    return [
        {"system": "this project", "disputed unit": "one accumulation step", "judged by": "contract",
         "period": "window + 2 clocks, any number of challengers", "bond": "flat",
         "note": f"{best['rounds']} rounds, {best['gas_dispute']:,} gas at k = {best['arity']} (measured)"},
        {"system": "opML", "disputed unit": "VM instruction", "judged by": "contract",
         "period": "7 d (rollup practice)", "bond": "not published",
         "note": f"MNIST challenge {cited('opml.mnist_challenge', 'min')} (cited)"},
        {"system": "Arbitrum BoLD", "disputed unit": "WASM instruction", "judged by": "contract",
         "period": f"{cited('bold.period', 'd')}, up to two", "bond": cited("bold.bond", "ETH"),
         "note": "all against all (cited)"},
        {"system": "OP fault game", "disputed unit": "MIPS instruction", "judged by": "contract",
         "period": cited("op.window", "d"), "bond": f"{cited('op.bond_root', 'ETH')} to {cited('op.bond_leaf', 'ETH')}",
         "note": f"{row.number('op.max_depth', 'count'):g} levels (cited)"},
        {"system": "Agatha", "disputed unit": "basic operation", "judged by": "contract", "period": "as Truebit",
         "bond": "not published", "note": f"overhead {row.number('agatha.overhead', 'pct'):g} % (cited, abstract)"},
        {"system": "TAO", "disputed unit": "operator", "judged by": "bound, or a vote", "period": "window",
         "bond": "not published", "note": f"overhead {row.number('tao.overhead', 'pct'):g} % (cited, abstract)"},
    ]  # fmt: skip
