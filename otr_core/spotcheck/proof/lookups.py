"""Look-ups: every ranged cell is in its range, every index stands beside its table entry.

LogUp: Σ over look-ups of 1 / (α − key) = Σ over table entries of multiplicity / (α − entry's key),
with keys value + β · table + β² · second value, for challenges α and β that are drawn after all
cells and multiplicities are committed. A multiplicity counts modulo p, and there are far fewer
look-ups than p. Parts of a key are kept apart by powers of β, so that no value strays into another
table's band.

Look-ups come in groups of at most 2^26, and the fractions of each group cancel by themselves: a false
look-up is in one group, whose size and not that of all bounds the error.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from otr_core.lane.formats import EXP2_ENTRIES, SIGMOID_ENTRIES
from otr_core.lane.tables import exp2_entries, sigmoid_entries
from otr_core.spotcheck.proof.claims import Flat
from otr_core.spotcheck.proof.field import ONE, ZERO, Ext, combine, dot, dot_base, eq_below, eq_table, residues, xtotal
from otr_core.spotcheck.proof.layout import EXP_ID, FUNCTIONS, PAD_ID, SIGMOID_ID, Group, Sizes
from otr_core.spotcheck.proof.party import Party
from otr_core.spotcheck.proof.scales import REST_BITS, norm_scales
from otr_core.spotcheck.proof.sumcheck import Fraction

TABLE_IDS = {"exp": EXP_ID, "sigmoid": SIGMOID_ID}


@cache
def entries(name: str) -> np.ndarray:
    """The table of a function, int32."""
    return np.array(exp2_entries() if name == "exp" else sigmoid_entries(), np.int32)


def widths(s: Sizes) -> np.ndarray:
    """Width of the cells of each ranged block; 0 for the blocks of ``norm_rest``."""
    found = []
    for column in list(s.columns.values())[: list(s.columns).index("distance")]:
        count = s.limb_blocks(column)
        found += [np.full(count, 0 if column.per_row else width) for width in column.widths]
        if column.bounds:
            found.append(np.repeat(column.last_widths, count // len(column.bounds)))
    return np.concatenate(found).astype(np.int64)


def rest_widths(s: Sizes, peak: np.ndarray) -> np.ndarray:
    """Width of the cells of ``norm_rest`` by its blocks and the positions in one, where rows are open: by so many bits
    their row was scaled down. Cells of no position are 0."""
    down = norm_scales(peak)[1]
    _, along, across = s.blocks_of(s.columns["norm_rest"])
    padded = np.pad(down, ((0, 0), (0, -down.shape[1] % s.block[0]))).reshape(s.sites, along, 1, s.block[0])
    assert down.max(initial=0) <= REST_BITS + 1
    return np.broadcast_to(padded, (s.sites, along, across, s.block[0])).reshape(-1, s.block[0])


def lookups(p: Party) -> None:
    """Prove all look-ups, group by group.

    Raises:
        AnswerProofError: an extension of the leaves is another, or the fractions do not cancel.
    """
    s = p.sizes
    alpha, beta = p.channel.challenge("alpha"), p.channel.challenge("beta")
    for table, groups in s.lookup_groups.items():
        for number, group in enumerate(groups):
            found = []
            for at, cells, bits in s.trees(group.cells):
                if table == "range":
                    found.append(_range_tree(p, alpha, beta, group.index + at, cells, bits))
                else:
                    found.append(_pair_tree(p, alpha, beta, group, at, cells, bits))
            p.cancel("look-ups", [*found, _table_tree(p, alpha, beta, table, number)])


def _range_tree(p: Party, alpha: Ext, beta: Ext, first: int, cells: int, bits: int) -> Fraction:
    """Cells from number ``first`` on, each beside its width."""
    s = p.sizes
    found = p.fractions("ranges", bits, alpha, beta, first, cells)
    e_block, live = _blocks(s, found.point, cells)
    begin, end = first // s.block_cells, (first + cells) // s.block_cells
    ids = dot_base(e_block, residues(widths(s)[begin:end]))
    if not s.hidden:
        ids = ids + _rest_ids(p, e_block, found.point, begin, end)
    said = p.claim_flat(Flat(found.point, first, cells), "ranges")
    p.equal("ranges", found.leaf_numerator, live)
    p.equal("ranges", found.leaf_denominator, live * alpha - said - beta * ids + (1 - live))
    return found


def _rest_ids(p: Party, e_block: np.ndarray, point: list[Ext], begin: int, end: int) -> Ext:
    """Extension of the widths of ``norm_rest`` alone, of the blocks from ``begin`` up to ``end``."""
    s = p.sizes
    rest, first = rest_widths(s, p.facts.peak), s.first_block["norm_rest"]
    low, high = max(begin, first), min(end, first + len(rest))
    if low >= high:
        return ZERO
    inner = s.block[1].bit_length() - 1
    e_t = eq_table(point[inner : s.block_cells.bit_length() - 1])
    by_block = combine(rest[low - first : high - first].T.astype(np.int32), e_t)
    return dot(by_block, e_block[low - begin : high - begin])


def _pair_tree(p: Party, alpha: Ext, beta: Ext, group: Group, at: int, cells: int, bits: int) -> Fraction:
    """Indices of a group from its cell ``at`` on, each beside its entry of the table."""
    name, number = group.name, TABLE_IDS[FUNCTIONS[group.name]]
    first, value = group.index + at, group.value + at
    found = p.fractions(f"look up {name}", bits, alpha, beta, first, value, cells, number)
    _, live = _blocks(p.sizes, found.point, cells)
    said = p.claim_flat(Flat(found.point, first, cells), name)
    said = said + beta * beta * p.claim_flat(Flat(found.point, value, cells), name)
    p.equal(f"look up {name}", found.leaf_numerator, live)
    expected = live * (alpha - beta * number) - said + (1 - live)
    p.equal(f"look up {name}", found.leaf_denominator, expected)
    return found


def _table_tree(p: Party, alpha: Ext, beta: Ext, name: str, group: int) -> Fraction:
    """A table's entries, each as often as it is looked up in a group."""
    s = p.sizes
    first, all_cells = s.cells_of(f"count_{name}")
    cells = all_cells // len(s.lookup_groups[name])
    first += group * cells
    found = p.fractions(f"table {name}", (cells - 1).bit_length(), alpha, beta, first, cells, name)
    said = p.claim_flat(Flat(found.point, first, cells), f"table {name}")
    p.equal(f"table {name}", ZERO - found.leaf_numerator, said)
    keys = _range_keys(found.point, beta) if name == "range" else _keys(name, found.point, beta)
    p.equal(f"table {name}", found.leaf_denominator, alpha - keys)
    return found


def _blocks(s: Sizes, point: list[Ext], cells: int) -> tuple[np.ndarray, Ext]:
    """Equality with a tree's point, block by block; and its sum over the cells that are there."""
    table = eq_table(point[s.block_cells.bit_length() - 1 :], cells // s.block_cells)
    return table, Ext.of(xtotal(table))


def _range_keys(point: list[Ext], beta: Ext) -> Ext:
    """Extension of the keys of ranges: entry 2^w + v is value v of width w; entry 0 is none."""
    above, result = ONE, ZERO
    for w in range(len(point) - 1, -1, -1):
        value = ZERO
        for bit in range(w):
            value = value + point[bit] * (1 << bit)
        result = result + above * point[w] * (value + beta * w)
        above = above * (1 - point[w])
    return result + above * beta * PAD_ID


def _keys(name: str, point: list[Ext], beta: Ext) -> Ext:
    """Extension of the keys of a function's table; entries after its end are none."""
    table, number = entries(name), TABLE_IDS[name]
    assert len(table) == {"exp": EXP2_ENTRIES, "sigmoid": SIGMOID_ENTRIES}[name]
    low = len(point) // 2
    e_low, e_high = eq_table(point[:low]), eq_table(point[low:])
    padded = np.zeros(1 << len(point), np.int32)
    padded[: len(table)] = table
    value = dot(combine(padded.reshape(-1, 1 << low), e_high), e_low)
    there = eq_below(point, len(table))
    index = ZERO
    for bit, own in enumerate(point):
        index = index + own * (1 << bit)
    return index + beta * (there * (number - PAD_ID) + PAD_ID) + beta * beta * value
