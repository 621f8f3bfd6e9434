"""How likely one drawn query convicts a cheat, by kind of cheat and kind of check.

A drawn query is checked at one place, by ``units`` units drawn there. A cheat is described by the
share of places where it deviates and, there, by the share of units it breaks in each operator. An
operator who cheats knows the place before it commits to the rows between, and may lay the fault
where it breaks fewest units; ``least_broken`` says how few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from otr_core.errors import InconclusiveError, ParameterError, SpotCheckError
from otr_core.lane.architecture import Architecture
from otr_core.spotcheck.query import REDRAWS, examine
from otr_core.spotcheck.selection import SHARES
from otr_core.spotcheck.units import PRODUCT_BLOCK, Layout
from otr_paper.store.records import Records, records

if TYPE_CHECKING:
    import numpy as np

Blocks: TypeAlias = "Mapping[str, np.ndarray]"
"""Operator -> which of its blocks are of some kind, bool, shape (blocks,)."""
Counts: TypeAlias = Mapping[str, int]
"""Operator -> its blocks, or its share in the draw of a unit."""


def per_unit(broken: Mapping[str, float], shares: Mapping[str, int] = SHARES) -> float:
    """Probability that one unit drawn at a place is a broken one.

    Args:
        broken: operator -> share of its units that are broken there.
    """
    total = sum(shares.values())
    return sum(share * broken.get(name, 0.0) for name, share in shares.items()) / total


def per_query(places: float, unit: float, units: int) -> float:
    """Probability that a drawn query convicts: the place deviates, and one of the units drawn there
    is broken.

    Args:
        places: share of (position, layer) places at which the cheat deviates. unit: ``per_unit``
            there.
    """
    for name, value in (("places", places), ("unit", unit)):
        if not 0 <= value <= 1:
            raise ParameterError(name, value, "0 to 1")
    return places * -math.expm1(units * math.log1p(-unit)) if unit < 1 else places * (units > 0)


def per_query_redrawn(broken: float, inconclusive: float, units: int, redraws: int = REDRAWS) -> float:
    """Probability that a query at a deviating place does not pass: a broken unit is found, or it
    goes to a dispute.

    It passes with ``units`` right ones and j ≤ ``redraws`` inconclusive ones among them, the last
    one right: (1 − b − i)^units · Σ_j C(units − 1 + j, j) · i^j.

    Args:
        broken, inconclusive: probability of either per unit drawn (b and i; their sum at most 1).
    """
    if not (broken >= 0 and inconclusive >= 0 and broken + inconclusive <= 1 and units >= 1):
        raise ParameterError("broken", (broken, inconclusive, units), "shares of sum at most 1, and a unit")
    ways = sum(math.comb(units - 1 + j, j) * inconclusive**j for j in range(redraws + 1))
    return float(1.0 - (1.0 - broken - inconclusive) ** units * ways)


@dataclass(frozen=True)
class Fault:
    """Where an operator may lay the fault of a wrong layer output, and the share of units it then
    breaks, at least."""

    operator: str
    share: float
    why: str


def least_broken(layout: Layout) -> list[Fault]:
    """Places for a fault between a layer's committed input and output, when the output is wrong in
    all its directions.

    Each must explain ``hidden`` values (SmolLM2: 576), so each must hold that many free ones: an
    operator of as many outputs breaks in all units, one of ``intermediate`` outputs in at least
    hidden/intermediate of them. A counting bound: it does not say that integers that fit exist.
    """
    a = layout.architecture
    some = _share(a)
    everywhere = ("attention.norm", "attention", "o", "mlp.norm", "down")
    faults = [Fault(name, 1.0, "as many outputs as there are values to explain") for name in everywhere]
    faults += [
        Fault(name, some, "only hidden of intermediate outputs are needed") for name in ("gate", "up", "product")
    ]
    return faults


def _share(a: Architecture) -> float:
    needed = -(-a.hidden // PRODUCT_BLOCK)
    return min(1.0, needed / -(-a.intermediate // PRODUCT_BLOCK))


def worst_fault(layout: Layout, shares: Mapping[str, int] = SHARES) -> tuple[str, float]:
    """The operator's best place for a fault, and the probability that one unit finds it."""
    found = {fault.operator: per_unit({fault.operator: fault.share}, shares) for fault in least_broken(layout)}
    name = min(found, key=lambda operator: found[operator])
    return name, found[name]


def element_link(values: int, changed: int, opened: int) -> float:
    """Probability that opening ``opened`` distinct values of a row shows one of ``changed`` false
    ones.

    The link that opens a few elements instead of the row: 1 − C(values − changed, opened) /
    C(values, opened).
    """
    if not 0 <= changed <= values or not 0 <= opened <= values:
        raise ParameterError("changed", (changed, opened), f"both 0 to {values}")
    return 1.0 - math.comb(values - changed, opened) / math.comb(values, opened)


def sparse_fit(
    weights: np.ndarray, x: np.ndarray, wanted: np.ndarray, shift: int, rng: np.random.Generator
) -> np.ndarray:
    """The attack on that link when the unit is known before the row is committed: change as few
    values of x as the block has rows, so that W·x' rounds to the ``wanted`` outputs. Solves a
    square system of random columns and rounds.

    Returns:
        x' (int64), differing from ``x`` in at most as many places as there are rows.

    Raises:
        ParameterError: no choice of columns tried fits.
    """
    import numpy as np

    rows = weights.shape[0]
    target = (wanted << shift).astype(np.float64) - weights @ x
    for _ in range(200):
        columns = rng.choice(weights.shape[1], rows, replace=False)
        try:
            change = np.rint(np.linalg.solve(weights[:, columns].astype(np.float64), target)).astype(np.int64)
        except np.linalg.LinAlgError:
            continue
        fitted = x.copy()
        fitted[columns] += change
        if np.array_equal((weights @ fitted + (1 << (shift - 1))) >> shift, wanted):
            return fitted
    raise ParameterError("weights", weights.shape, "a block some columns of which fit")


def broken_units(
    layout: Layout, weights: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Which matrix units of a place are broken: operator -> bool (blocks,), by integer arithmetic.

    Args:
        weights: operator -> the registered matrix, int64 (rows, columns), unscaled. rows: all rows
            committed there.
    """
    import numpy as np

    result = {}
    for name, matrix in layout.matrices.items():
        sums = weights[name] @ rows[matrix.source]
        true = (sums + (1 << (matrix.shift - 1))) >> matrix.shift
        if name in ("o", "down"):
            before, after = ("input", "attention.residual") if name == "o" else ("attention.residual", "output")
            claimed = rows[after] - rows[before]
        else:
            claimed = rows["value" if name == "v" else name]
        result[name] = np.asarray(np.reshape(true != claimed, (layout.blocks[name], -1)).any(axis=1))
    return result


def simulate_draws(
    broken: list[Blocks | None], shares: Counts, blocks: Counts, units: int, draws: int, randomness: bytes
) -> int:
    """Convictions among ``draws`` drawn queries, with the very draws of the protocol.

    Args:
        broken: per place, the broken units by operator (None: nothing deviates there); a place is
            drawn uniformly.
    """
    from otr_core.spotcheck import selection

    caught = 0
    for draw in range(draws):
        root = draw.to_bytes(32, "big")
        place = broken[selection.uniform(randomness, root, "place", 0, len(broken))]
        if place is None:
            continue
        for number in range(units):
            operator, block = selection.draw_unit(randomness, root, number, shares, blocks)
            if operator in place and place[operator][block]:
                caught += 1
                break
    return caught


def simulate_redrawn(
    broken: Blocks, inconclusive: Blocks, shares: Counts, blocks: Counts, units: int, draws: int, randomness: bytes
) -> tuple[int, int]:
    """(convicted, disputed) among ``draws`` queries at one place, with the protocol's draws and its
    rule of redraws.

    Args:
        broken, inconclusive: operator -> bool (blocks,); a block that is both shows as
            inconclusive.
    """
    from otr_core.spotcheck import selection

    convicted = disputed = 0
    for draw in range(draws):
        root = draw.to_bytes(32, "big")

        def check(number: int, root: bytes = root) -> None:
            operator, block = selection.draw_unit(randomness, root, number, shares, blocks)
            if operator in inconclusive and inconclusive[operator][block]:
                raise InconclusiveError(f"unit {operator} {block}")
            if operator in broken and broken[operator][block]:
                raise SpotCheckError("operator", f"{operator} {block}", "a unit that holds")

        try:
            disputed += examine(units, check).disputed
        except SpotCheckError:
            convicted += 1
    return convicted, disputed


def dodges(layout: Layout, *, draws: int, randomness: bytes, shares: Counts = SHARES) -> Records:
    """What saturation does to detection: rows of case, units, without (detection if every unit were
    decided), computed, convicted and disputed (shares of ``draws`` simulated queries).

    The dodge is the best there could be: the fault laid in the ``o`` products and every block of
    them saturated, so that no unit is ever broken. It is a bound: a saturated residual breaks the
    operators after it.
    """
    import numpy as np

    blocks, total = layout.blocks, sum(shares.values())
    whole = {"o": np.ones(blocks["o"], bool)}
    one = {"o": np.arange(blocks["o"]) == 0}
    rows = []
    for case, broken, inconclusive in (
        ("fault laid best, nothing saturated", whole, {}),
        ("fault laid best, all of it saturated", {}, whole),
        ("honest, one block saturated", {}, one),
    ):
        b, i = (sum(shares[n] * float(m.mean()) for n, m in part.items()) / total for part in (broken, inconclusive))
        without = 0.0 if case.startswith("honest") else per_unit({"o": 1.0}, shares)
        for units in (1, 4, 16, 64):
            convicted, disputed = simulate_redrawn(broken, inconclusive, shares, blocks, units, draws, randomness)
            known = per_query(1.0, without, units), per_query_redrawn(b, i, units)
            rows.append((case, units, *known, convicted / draws, disputed / draws))
    return records("case, units, without, computed, convicted, disputed", rows)
