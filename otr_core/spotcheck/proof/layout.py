"""What is committed to: the columns of the witness, and where their cells lie.

All sizes follow from the model's manifest and the receipt. A *column* is an array of integers over
three axes, (rows of some kind, positions, values). A number is held as one or more *limbs*, cells
of a proven range; number = Σ limb · 2^shift − offset, plus what the proof lists as an exception.

Cells lie in *blocks* of ``block`` = (positions, values), so that the widths of a model need no
padding to a power of two; a limb's blocks come in the order (row, block of positions, block of
values). Cells of a block outside the column are never read by any relation; those of ranged columns
are proven to be in range like all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from otr_core.lane import formats as bits
from otr_core.lane.dims import Dims, Matrix
from otr_core.lane.formats import EXP2_ENTRIES
from otr_core.spotcheck.proof.blocks import CellLayout, Column
from otr_core.spotcheck.proof.scales import LENGTHS, REST_BITS, factor_bits, root_bits, squares_bits

_LIMB_BITS = (14, 20)  # of small and of large witnesses: the table of ranges is as large as 2^(bits + 1)
_LARGE = 2**22  # values from which the larger table pays
MOST_LEAVES_BITS = 22
"""Of one tree of fractions; bounds the prover's memory."""
MOST_LOOKUPS_BITS = 26
"""Of one group of look-ups, which has multiplicities of its own: bounds their error (``soundness``)."""
BELOW_BITS = 31
"""Bits of how far a logit is below the largest one, where tokens are drawn: 2^15 logits."""
ROOM_BITS = 42
"""Bits of how far a logit may be below a greedily chosen one."""
DRAW_BITS, DRAW_LIMB = 53, 27
"""Bits of a draw (``lane.sampling.draw``), and of its lower limb where its product with the total is hidden."""
TEMPER_END = EXP2_ENTRIES - 1
"""Index of the table's last entry, 0: what is farther weighs nothing."""
PAD_ID, EXP_ID, SIGMOID_ID = 255, 100, 101
"""Tables beside those of ranges, which have their width as id."""


FUNCTIONS = {"exp": "exp", "sigmoid": "sigmoid", "chance": "exp"}
"""Columns of what a table gives, and the table's name."""
INDEX_OF = {"exp": "distance", "sigmoid": "gate_index", "chance": "chance_index"}
"""By the column of what a table gives, that of the indices."""


@dataclass(frozen=True)
class Group:
    """Look-ups with multiplicities of their own.

    Attributes:
        name: column of the values; empty of ranges. index, value: first cell of the indices and of
            the values (of ranges there are none). cells: looked up.
    """

    name: str
    index: int
    value: int
    cells: int


def groups_of(cells: int) -> list[tuple[int, int]]:
    """Cells in groups: (first, count)."""
    most = 1 << MOST_LOOKUPS_BITS
    return [(at, min(most, cells - at)) for at in range(0, cells, most)]


@dataclass(frozen=True)
class Sizes(CellLayout):
    """Sizes of a statement.

    Attributes:
        d: dimensions of the model. prompt, answer: tokens given and chosen.
        saturation: per layer, the power of two at which the MLP's product saturates.
        temperature_milli: 0 of a greedy answer. hidden: rows' numbers are columns, and no value leaves
            its column; otherwise they stand in the clear (``facts``).
    """

    d: Dims
    prompt: int
    answer: int
    saturation: tuple[int, ...]
    temperature_milli: int = 0
    hidden: bool = False

    @property
    def positions(self) -> int:
        return self.prompt + self.answer - 1

    @property
    def sites(self) -> int:
        """Places of the residual stream that are normed: two of each layer, and the head."""
        return 2 * self.d.layers + 1

    @property
    def temper(self) -> int:
        """By which (distance of two logits) · ``TEMPERATURE_FACTOR`` is divided."""
        return self.temperature_milli << bits.TEMPERATURE_SHIFT

    @cached_property
    def block(self) -> tuple[int, int]:
        """(positions, values) of a block of cells, powers of two."""
        tile = self.d.tile & -self.d.tile
        return min(64, 1 << (self.positions - 1).bit_length()), min(64, tile)

    @cached_property
    def limb_bits(self) -> int:
        """The widest limb."""
        return _LIMB_BITS[self.sites * self.positions * self.d.hidden >= _LARGE // 4]

    def split(self, width: int) -> tuple[int, ...]:
        """A width in limbs."""
        most = self.limb_bits
        return (most,) * (width // most) + ((width % most,) if width % most else ())

    @cached_property
    def columns(self) -> dict[str, Column]:
        """All columns by name, those with proven ranges first."""
        d, positions = self.d, self.positions
        stream = (self.sites, positions, d.hidden)
        heads = (d.layers * d.heads, positions, positions)
        mlp = (d.layers, positions, d.intermediate)
        outputs = (d.layers, positions, d.hidden)
        qkv = (d.layers, positions, (d.heads + 2 * d.kv_heads) * d.tile)
        turned = (d.layers, positions, (d.heads + d.kv_heads) * d.tile)
        mixed = (d.layers, positions, d.heads * d.tile)
        normed = bits.NORMED + 2 + (d.hidden.bit_length() + 1) // 2

        found = [
            self._ranged("below", stream, 32),
            self._ranged("above", stream, 32),
            self._signed("scaled", stream, bits.NORM_INPUT + 1, open=True),
            self._rest(stream),
            self._signed("normed", stream, normed),
            self._ranged("normed_rest", stream, d.drop),
            self._signed("qkv", qkv, 32),
            self._ranged("qkv_rest", qkv, Matrix.QKV.shift),
            self._signed("turned", turned, 32),
            self._ranged("turned_rest", turned, bits.ROTARY),
            self._ranged("distance_low", heads, bits.SCORE_SHIFT),
            self._ranged("far", heads, 20, open=True),
            self._ranged("weight", heads, bits.PROBABILITY + 1),
            self._ranged("weight_rest", heads, bits.EXP),
            self._signed("mixed", mixed, 32),
            self._ranged("mixed_rest", mixed, bits.PROBABILITY),
            self._ranged("out_rest", outputs, Matrix.OUT.shift),
            self._ranged("gate_low", mlp, bits.SIGMOID_SHIFT),
            self._ranged("gate_rest", mlp, Matrix.GATE_UP.shift),
            self._signed("up", mlp, 32, open=True),
            self._ranged("up_rest", mlp, Matrix.GATE_UP.shift),
            self._signed("silu", mlp, 32, open=True),
            self._ranged("silu_rest", mlp, bits.SIGMOID),
            # the least saturation is 2^21 (``otr_node.rounding``)
            Column("product", mlp, self.split(20), open=not self.hidden, bounds=self.saturation),
            self._ranged("product_rest", mlp, bits.PRODUCT_SHIFT),
            self._ranged("down_rest", outputs, Matrix.DOWN.shift),
            *self.choice_columns(),
            *(self.row_columns() if self.hidden else ()),
            Column("distance", heads),
            Column("exp", heads),
            Column("gate_index", mlp, open=not self.hidden),
            Column("sigmoid", mlp),
        ]
        if self.temperature_milli:
            logits = (1, self.answer, d.vocab)
            found += [Column("chance_index", logits), Column("chance", logits)]
        cells = {column.name: self.limb_blocks(column) * self.block_cells for column in found}
        ranged = sum(column.limbs * cells[column.name] for column in found if column.widths)
        groups = {"range": len(groups_of(ranged))}
        for name, table in FUNCTIONS.items():
            groups[table] = groups.get(table, 0) + len(groups_of(cells.get(name, 0)))
        entries = {"range": self.limb_bits + 1, "exp": TEMPER_END.bit_length()}
        entries["sigmoid"] = (bits.SIGMOID_ENTRIES - 1).bit_length()
        found += [self._table(f"count_{name}", groups[name], entries[name]) for name in entries]
        return {column.name: column for column in found}

    def choice_columns(self) -> list[Column]:
        """Ranged columns of the choice of tokens: of greedy answers, or of drawn ones."""
        logits = (1, self.answer, self.d.vocab)
        if not self.temperature_milli:
            return [self._ranged("room", logits, ROOM_BITS + Matrix.HEAD.shift)]
        farthest = ((1 << BELOW_BITS) - 1) * bits.TEMPERATURE_FACTOR // self.temper
        high = ((self.temper >> self.limb_bits) - 1).bit_length()
        return [
            self._ranged("below_top", logits, BELOW_BITS),
            self._ranged("logit_rest", logits, Matrix.HEAD.shift),
            self._ranged("chance_far", logits, farthest.bit_length()),
            self._ranged("temper_low", logits, self.limb_bits),
            self._ranged("temper_high", logits, high),
            self._ranged("temper_room", logits, high),
        ]

    def row_columns(self) -> list[Column]:
        """Ranged columns of what stands in the clear where rows are not hidden: of the norms' rows and of
        attention's, of the chosen tokens, where peaks and tops are, and of gates beyond the table."""
        d, positions = self.d, self.positions
        norms, heads = (1, positions, self.sites), (1, positions, d.layers * d.heads)
        stream, mlp = (self.sites, positions, d.hidden), (d.layers, positions, d.intermediate)
        root, total = root_bits(d), (positions << bits.EXP).bit_length()
        peak = LENGTHS - 2  # of how far a peak is from either end of those of its length
        return [
            self._ranged("length", (LENGTHS, positions, self.sites), 1),
            self._ranged("peak_at", stream, 1),
            self._ranged("peak_low", norms, peak),
            self._ranged("peak_high", norms, peak),
            self._signed("peak_value", norms, LENGTHS),
            self._ranged("norm_room", stream, REST_BITS),
            self._ranged("squares", norms, squares_bits(d)),
            self._ranged("root", norms, root),
            self._ranged("root_low", norms, root + 1),
            self._ranged("root_high", norms, root + 1),
            self._ranged("factor", norms, factor_bits(d)),
            self._ranged("quotient_low", norms, root),
            self._ranged("quotient_room", norms, root),
            self._ranged("top_at", (heads[2], positions, positions), 1),
            self._signed("top", heads, 54),
            self._ranged("total", heads, total),
            self._ranged("share", heads, bits.PROBABILITY + 1),
            self._ranged("share_low", heads, total),
            self._ranged("share_room", heads, total),
            self._ranged("gate_above", mlp, 20),
            self._ranged("gate_beneath", mlp, 20),
            *self._chosen_columns(),
        ]

    def _chosen_columns(self) -> list[Column]:
        """Of the chosen tokens; a draw's product with the total is there in limbs of ``DRAW_LIMB`` bits."""
        step, low = (1, self.answer, 1), DRAW_LIMB
        logit = self._signed("logit", step, ROOM_BITS + 2)
        if not self.temperature_milli:
            return [logit, self._ranged("chosen_room", step, Matrix.HEAD.shift)]
        widths = {"chances_low": low, "chances_high": 48 - low, "draw_low": low, "draw_carry": low}
        widths |= {"draw_high": DRAW_BITS - low, "draw_more": 30, "draw_room": 48, "draw_end": 48}
        return [
            logit,
            self._ranged("logit_at", (1, self.answer, self.d.vocab), 1),
            *(self._ranged(name, step, width) for name, width in widths.items()),
        ]

    def _rest(self, stream: tuple[int, int, int]) -> Column:
        """What the rounding of scaled rows leaves."""
        if self.hidden:
            return self._ranged("norm_rest", stream, REST_BITS)
        return Column("norm_rest", stream, (32 - bits.NORM_INPUT,), per_row=True)

    def _ranged(self, name: str, shape: tuple[int, int, int], width: int, open: bool = False) -> Column:
        return Column(name, shape, self.split(width), open=open and not self.hidden)

    def _signed(self, name: str, shape: tuple[int, int, int], width: int, open: bool = False) -> Column:
        return Column(name, shape, self.split(width), 1 << (width - 1), open=open and not self.hidden)

    def _table(self, name: str, groups: int, entry_bits: int) -> Column:
        """One value a table entry, in their order, for each group of look-ups: as wide as a block."""
        return Column(name, (groups, (1 << entry_bits) // self.block[1], self.block[1]))

    @cached_property
    def ranged_blocks(self) -> int:
        """The blocks whose cells are looked up in the table of ranges: the first ones."""
        return self.first_block["distance"]

    @cached_property
    def lookup_groups(self) -> dict[str, list[Group]]:
        """The groups of look-ups in each table, in the order of their multiplicities."""
        found = {"range": [Group("", at, 0, n) for at, n in groups_of(self.ranged_blocks * self.block_cells)]}
        for name, table in FUNCTIONS.items():
            if name in self.columns:
                values, count = self.cells_of(name)
                index = self.cells_of(INDEX_OF[name])[0]
                own = [Group(name, index + at, values + at, n) for at, n in groups_of(count)]
                found[table] = found.get(table, []) + own
        return found

    def trees(self, cells: int) -> list[tuple[int, int, int]]:
        """Trees of fractions over so many cells: (first cell, cells, bits of the tree)."""
        most = max(1 << MOST_LEAVES_BITS, self.block_cells)
        starts = range(0, cells, most)
        return [(at, n, max((n - 1).bit_length(), 1)) for at in starts for n in [min(most, cells - at)]]
