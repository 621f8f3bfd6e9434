"""One dispute as a table of moves over a frozen state: who may do what when, and why.

The operator has signed a receipt whose roots commit to what every layer left behind at every
position of an answer, and to its tokens. A challenger says that something under a root is wrong.
Nobody runs the answer again to decide this; the two narrow it down. In turns the operator *shows* the nodes below
the disputed node of a Merkle tree, and the challenger *chooses* the first of them that differs from
its own run. At a leaf the operator opens what the leaf commits to and commits to the next, finer
tree. In the end one arithmetic step is left. The operator proves it with the few values that it
reads, and ``judge`` decides.

An operator that is right can always show nodes that hash to the disputed one, and its step passes.
Under a wrong node it has to show at least one wrong node again, whichever way it turns. The
challenger points at the first: all that comes before agrees with its own run. So the last step
reads right values and gives a wrong one, and fails. The clocks of ``court`` see to it that a side
without an answer loses.

    level       what is disputed                    operator's move     challenger's answer
    SEED        the seed of all salts               reveal_seed         dispute, or retract
    TRACE       a node of the tree of states        bisect              choose
                or of the tree of tokens
                its leaf: a layer at a position,    expand_layer        choose, or choose_kept
                come to, or named at once
                the first layer at a position       expand_first        the same, or choose_token
                a token of the prompt               show_given          (ends the game)
                a token that was chosen             expand_token        choose, choose_last,
                                                                        or accuse_salt
    OPERATORS   one operator                        expand_operator     choose
                one operator of one tile            publish             (turns to ELEMENT)
    TILES       a node of the operator's tiles      bisect              choose
                its leaf: one tile                  publish             (turns to ELEMENT)
    ELEMENT     one value of a published tile       (none)              element, or accuse_salt
    STEPS       how that value was accumulated      expand_steps        choose_step
                (a value that was not published)    misquoted           (ends the game)
    LEAF        one arithmetic step                 prove               (the step decides)
                (a value that was not published)    misquoted           (ends the game)

What a court sees of a token it judges as soon as the leaf is shown: a prompt's token is the one
ordered, leaf by leaf; a chosen one has its number and an id of the vocabulary, and stop ids end an
answer, there and nowhere else.

Moves are functions: those at SEED, and of the operator at TRACE, are in ``moves_trace``; those to
choose, and down to a value, in ``moves_operators``; those below a value in ``moves_steps``. ``rules``
has what they share. A move returns a new ``Game``, or raises ``MoveError`` and changes nothing;
``reason`` names the rule that was broken. Every move is first checked against its row of the table
(``over``, ``turn``, ``level``), then against what was committed. ``court`` adds clocks, money and
the other games; ``table.vy`` is the same table on chain, with the same reasons.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from otr_core.dispute import moves_operators as values
from otr_core.dispute import moves_steps as steps
from otr_core.dispute import moves_trace as trace
from otr_core.dispute.rules import ENTERED, MoveRule, require
from otr_core.dispute.state import MOST_ARITY_BITS, SEED, AnswerClaim, Game, Level, RegisteredModel, Verdict
from otr_core.lane.element import LAYER
from otr_core.poea.order import Domain, Order, word
from otr_core.poea.receipt import Receipt

TABLE = (
    *(trace.reveal_seed, trace.dispute, trace.retract),
    *(values.bisect, values.choose, values.choose_last, values.choose_kept, values.choose_token),
    *(trace.expand_layer, trace.expand_first, trace.show_given, trace.expand_token),
    *(values.expand_operator, values.publish, values.element, values.accuse_salt),
    *(steps.misquoted, steps.expand_steps, steps.choose_step, steps.prove),
)
MOVES: dict[str, MoveRule] = {make.__name__: ENTERED[make.__name__] for make in TABLE}
"""All moves by name."""


def open_game(order: Order, receipt: Receipt, model: RegisteredModel, arity_bits: int, token: int) -> Game:
    """A dispute about the states under a receipt's root, about its tokens, or one that begins with
    the demand to be shown the seed.

    Args:
        token: as ``disputed`` takes it, or ``SEED``.

    Raises:
        MoveError: ``arity``: not 2 to 64 nodes a round. ``token``: the answer has no such token.
    """
    require(1 <= arity_bits <= MOST_ARITY_BITS, "arity", arity_bits, f"1 to {MOST_ARITY_BITS} bits")
    how = order.decoding
    claim = AnswerClaim(
        receipt.states_root,
        receipt.tokens_root,
        receipt.seed_hash,
        receipt.positions,
        receipt.order_id,
        how.seed,
        how.temperature_milli,
        order.prompt_root,
        order.prompt_tokens,
        receipt.finish_number,
    )
    game = Game(claim, model, arity_bits, LAYER, 0)
    return replace(game, level=Level.SEED) if token == SEED else trace.dispute_begun(game, token)


def statement(domain: Domain, game_id: int, trace_root: bytes, verdict: Verdict) -> bytes:
    """What an arbiter signs, or a proof shows, to end a game of a court at any point (32 bytes)."""
    words = word(domain.chain_id) + word(domain.court) + word(game_id)
    return sha256(b"otr/2/arbitration" + words + trace_root + bytes([verdict])).digest()
