"""The exhaustive search, family by family of adversaries, on models small enough for it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from otr_core.dispute.game import open_game
from otr_core.dispute.players import HonestChallenger, HonestOperator, case
from otr_core.dispute.state import STATES, TOKENS, Game, Level, RegisteredModel, Turn
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Dims
from otr_core.lane.sampling import Decoding
from otr_core.lane.tensor_steps import LANE
from otr_core.poea.trace import seed_hash
from otr_node.run import Run
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.labs.disputes.alphabets import Alphabet, every_state, every_trace, leaf_change, token_traces, traces
from otr_paper.labs.disputes.free import FreeOperator, FreeTrace, told_leaves
from otr_paper.labs.disputes.parties import registered_model, vouched
from otr_paper.labs.disputes.search import FreeChallenger, Searched, search
from otr_paper.labs.tiny import write_tiny

ALL = (Level.OPERATORS, Level.TILES, Level.STEPS)
OTHER_SEED = bytes(range(32))
SHAPES = {
    # one layer of eight tiles a row; eight positions: every tree has eight leaves or more, apart
    # from the pieces of a trace leaf, which hold 256 values each
    "narrow": (Architecture(16, 8, 1, 2, 1, 2, 16, 16, 1e-5, 1e4, True, (2,)), Decoding(5, seed=5), 2),
    # two layers, grouped heads, an output matrix of its own, drawn tokens, 8 nodes a round
    "deep": (
        Architecture(32, 16, 2, 4, 2, 4, 32, 16, 1e-5, 1e4, False, (2,)),
        Decoding(5, seed=5, temperature_milli=1500),
        3,
    ),
    # as the first; the answer ends with a stop id after three tokens
    "stopped": (Architecture(16, 8, 1, 2, 1, 2, 16, 16, 1e-5, 1e4, True, (2, 11)), Decoding(5, seed=5), 2),
    # one layer in the other lane, whose tiles are eight values wide at least
    LANE: (Architecture(16, 16, 1, 2, 1, 8, 16, 16, 1e-5, 1e4, True, (2,)), Decoding(5, seed=5), 2),
}
"""Models of the search: shape, decoding, arity (bits). That of the lane h100-bf16 has its name."""


@dataclass(frozen=True, eq=False)
class SmallWorld:
    """A tiny model and its honest answer, about which games are searched.

    Attributes:
        arity_bits: of the games.
    """

    served: Served
    arity_bits: int

    @functools.cached_property
    def honest(self) -> Run:
        """The right run of the order."""
        return self.served.honest

    @functools.cached_property
    def model(self) -> RegisteredModel:
        return registered_model(self.served.trees)

    def game(self, trace: FreeTrace, claimed: Run, token: int, **stated: object) -> Game:
        """A game about ``trace``, which is passed off as that of the tokens of ``claimed``."""
        roots = {"states_root": trace.states.root, "tokens_root": trace.tokens.root, **stated}
        signed = vouched(self.served.order, claimed, **roots)
        return open_game(signed.order, signed.receipt, self.model, self.arity_bits, token)

    def against_operators(
        self,
        found: Iterable[FreeTrace],
        choices: Alphabet,
        *,
        own: Run | None = None,
        seed: bytes = b"",
        told: bool = False,
        **stated: object,
    ) -> tuple[Searched, int]:
        """An honest challenger against everything that can be done below ``found`` traces.

        Args:
            own: what the challenger has run; the right answer to the order. seed: of the operator.
            told: whether the challenger has the leaves of the states, and need not walk down to one.

        Returns:
            what was seen; how many traces were not disputed.
        """
        total, undisputed = Searched(), 0
        for trace in found:
            assert isinstance(trace.honest, Run)
            run, claim = own or self.honest, self.game(trace, trace.honest, 0, **stated).claim
            leaves = told_leaves(trace) if told else ()
            token = case(run, claim, self.model.stop_ids, leaves)
            if token is None:
                undisputed += 1
                continue
            free = FreeOperator(trace, choices, seed or trace.honest.seed)
            game = self.game(trace, trace.honest, token, **stated)
            total.add(search(game, HonestChallenger(run, leaves), free, Turn.CHALLENGER))
            total.latest_read = max(total.latest_read, free.latest_read)
        return total, undisputed

    def against_challengers(self, token: int) -> Searched:
        """An honest operator against every challenger that begins with ``token``."""
        game = self.game(FreeTrace(self.honest), self.honest, token)
        return search(game, HonestOperator(self.honest), FreeChallenger(self.honest.seed), Turn.OPERATOR)

    def with_token(self, step: int) -> Run:
        """A right run of the answer with one token replaced by the next id."""
        return self.served.with_token(step, self.honest.token_ids[step] + 1)

    def with_prompt(self, at: int) -> Run:
        """A right run of another prompt."""
        ids = list(self.honest.prompt_ids)
        ids[at] += 1
        return replace(self.honest, prompt_ids=tuple(ids))


@functools.cache
def small_world(name: str) -> SmallWorld:
    """One of ``SHAPES``."""
    shape, decoding, bits = SHAPES[name]
    folder = write_tiny(Path(tempfile.mkdtemp(prefix="otr-search-")), shape)
    bench = Workbench(folder, lane=LANE if name == LANE else Dims.lane)
    # Openings of weights are asked for again and again.
    object.__setattr__(bench.trees, "weight", functools.cache(bench.trees.weight))
    return SmallWorld(bench.serve("w3 w5", decoding, trace_secret=bytes(32)), bits)


Family = Callable[[SmallWorld, bool], tuple[Searched, int]]
"""One kind of opponent, all of whose games are searched: (world, whether over all leaves and letters,
which takes minutes) -> what was seen, and how many traces were not disputed."""


def _ends(world: SmallWorld, whole: bool) -> Sequence[int]:
    """Trace leaves whose programs are searched: the last, of the longest attention; or all."""
    last = len(world.honest.trace.leaves) - 1
    return range(last + 1) if whole else (last,)


def _challengers(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    named = range(STATES, STATES + world.honest.states.size)
    tokens = (0, TOKENS, *range(1, len(world.honest.trace.tokens)), *named)
    total = Searched()
    for token in tokens:
        total.add(world.against_challengers(token))
    return total, 0


def _every_trace(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    return world.against_operators(every_trace(world.honest, "RFX" if whole else "RF"), Alphabet(fixed=ALL))


def _every_trace_told(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    """As above; the challenger names the first leaf that differs."""
    found = every_trace(world.honest, "RFX" if whole else "RF")
    return world.against_operators(found, Alphabet(fixed=ALL), told=True)


def _every_state(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    states = (trace for leaf in _ends(world, whole) for trace in every_state(world.honest, leaf))
    return world.against_operators(states, Alphabet(fixed=ALL))


def _first_differences(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    choices = Alphabet(narrow=() if whole else (Level.TILES,), fixed=(Level.STEPS,))
    return world.against_operators(traces(world.honest, range(len(world.honest.trace.leaves))), choices)


def _every_tile(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    choices = Alphabet(full=Level.TILES, narrow=(Level.OPERATORS,), fixed=(Level.STEPS,))
    return world.against_operators(traces(world.honest, _ends(world, whole), "F"), choices)


def _every_accumulation(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    choices = Alphabet(full=Level.STEPS, narrow=(Level.OPERATORS, Level.TILES))
    return world.against_operators(traces(world.honest, _ends(world, whole), "F"), choices)


def _every_token_leaf(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    found = token_traces(world.honest, range(len(world.honest.trace.tokens)))
    return world.against_operators(found, Alphabet(narrow=(Level.OPERATORS,), fixed=(Level.TILES,)))


def _token_and_state(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    run, count = world.honest, len(world.honest.trace.leaves)
    found = (
        FreeTrace(run, {leaf: leaf_change(run, leaf, letter)}, tokens.token_changes)
        for tokens in token_traces(run, range(len(run.trace.tokens)))
        for leaf in (range(count) if whole else (0, count // 2, count - 1))
        for letter in "FSX"
    )
    return world.against_operators(found, Alphabet(fixed=ALL))


def _programs_of_a_false_token(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    """The challenger has run the response's tokens, or its own where ``whole``."""
    false = world.with_token(2)
    own = None if whole else world.served.run(token_ids=false.token_ids)
    choices = Alphabet(full=Level.OPERATORS, fixed=(Level.TILES, Level.STEPS))
    return world.against_operators([FreeTrace(false)], choices, own=own)


def _false_tokens(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    """Of every step; the challenger has run the response's tokens, or its own."""
    total, undisputed = Searched(), 0
    for step in range(len(world.honest.token_ids)) if whole else (0, 2):
        false = world.with_token(step)
        for own in (None, world.served.run(token_ids=false.token_ids)):
            seen, left = world.against_operators([FreeTrace(false)], Alphabet(narrow=ALL), own=own)
            total.add(seen)
            undisputed += left
    return total, undisputed


def _other_prompts(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    found = [FreeTrace(world.with_prompt(at)) for at in range(len(world.honest.prompt_ids))]
    return world.against_operators(found, Alphabet(fixed=ALL))


def _told_and_not(world: SmallWorld, found: Sequence[FreeTrace]) -> tuple[Searched, int]:
    """With the leaves of the states in the challenger's hands, and without."""
    total, undisputed = world.against_operators(found, Alphabet(fixed=ALL))
    total.add(world.against_operators(found, Alphabet(fixed=ALL), told=True)[0])
    return total, undisputed


def _shorter_answers(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    ids = world.honest.token_ids
    found = [FreeTrace(world.served.run(token_ids=ids[:count])) for count in range(1, len(ids))]
    return _told_and_not(world, found)


def _longer_answers(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    """An answer that went on after a stop id, or one that was false before it."""
    ids, most = world.honest.token_ids, world.served.decoding.max_tokens
    found = [
        FreeTrace(world.served.run(token_ids=(*ids, *[5] * most)[:count])) for count in range(len(ids) + 1, most + 1)
    ]
    return _told_and_not(world, found)


def _other_seeds(world: SmallWorld, whole: bool) -> tuple[Searched, int]:
    """Right and false states under salts of another seed, and a seed that nobody has. The right ones
    are disputed until the seed is shown, and then given up: nobody loses."""
    salted, right = world.honest.with_seed(OTHER_SEED), Alphabet(fixed=ALL)
    found = [FreeTrace(salted), *traces(salted, _ends(world, whole), "FSX")]
    total, undisputed = world.against_operators(found, right)
    total.add(world.against_operators(found, right, told=True)[0])
    total.add(world.against_operators([FreeTrace(world.honest)], right, seed_hash=seed_hash(b""))[0])
    return total, undisputed


FAMILIES: dict[str, Family] = {
    "every move of a challenger": _challengers,
    "every trace": _every_trace,
    "every trace, its leaves told": _every_trace_told,
    "every state": _every_state,
    "every first difference": _first_differences,
    "every result": _every_tile,
    "every accumulation": _every_accumulation,
    "every token leaf": _every_token_leaf,
    "a token leaf and a state": _token_and_state,
    "every program of a false token": _programs_of_a_false_token,
    "a false token": _false_tokens,
    "another prompt": _other_prompts,
    "a shorter answer": _shorter_answers,
    "a longer answer": _longer_answers,
    "another seed": _other_seeds,
}
"""All families of opponents."""
