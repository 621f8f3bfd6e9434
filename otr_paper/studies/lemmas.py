"""The lemmas of the composed guarantee, as inequalities that a solver can refute.

Each follows from its hypotheses, and from no proper part of them: for each hypothesis left out, and for
each claim that was weakened on purpose, there is a counter-example. ``otr_paper.producers.guarantee``
asks z3 for both and stores what it finds; whoever trusts no solver can put the stored numbers in.
Optional stopping, which makes a step of ``schedule`` a statement on whole strategies, is proven by hand
in ``otr_core.economics.guarantee``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, TypeAlias

#: From numbers by name to whether it holds, or to several that all have to; also from a solver's
#: variables to its formulas.
Predicate: TypeAlias = Callable[[Any], Any]


def conjuncts(result: Any) -> tuple[Any, ...]:
    """What a predicate says, one by one."""
    return result if isinstance(result, tuple) else (result,)


@dataclass(frozen=True)
class Lemma:
    """One step of the proof.

    Attributes:
        name, says: in a word, in a sentence.
        variables: by name; all are real numbers.
        given: what is so by definition. hypotheses: what is assumed, by name.
        claim: what follows. false: whether it is a weakened version that must be refuted.
    """

    name: str
    says: str
    variables: str
    given: tuple[Predicate, ...]
    hypotheses: Mapping[str, Predicate]
    claim: Predicate
    false: bool = False

    def refuted_by(self, numbers: Mapping[str, str], dropped: str = "") -> bool:
        """Whether ``numbers`` (fractions as text, by variable) meet all but the hypothesis
        ``dropped``, and not the claim."""
        exact = SimpleNamespace(**{name: Fraction(numbers[name]) for name in self.variables.split()})
        kept = [test for name, test in self.hypotheses.items() if name != dropped]
        met = all(all(conjuncts(test(exact))) for test in (*self.given, *kept))
        return met and not all(conjuncts(self.claim(exact)))


def _share(name: str) -> tuple[Predicate, Predicate]:
    return (lambda x: getattr(x, name) >= 0), (lambda x: getattr(x, name) <= 1)


def _from_zero(*names: str) -> tuple[Predicate, ...]:
    return tuple((lambda x, name=name: getattr(x, name) >= 0) for name in names)


_EXIT = (
    *_from_zero("v", "k", "slashed", "spent", "unpaid", "back"),
    *_share("alpha"),
    *_share("sigma"),
    lambda x: x.S > 0,
)
_EXIT_LOSS: Predicate = lambda x: x.lost == x.unpaid + x.slashed + x.spent - x.back  # noqa: E731
_EXITS: dict[str, Predicate] = {
    "H5: every exit is slashed as losing is": lambda x: x.slashed >= x.sigma * x.S,
    "H5: every exit costs what losing a dispute costs": lambda x: x.spent >= x.k,
    "H6: the price is not paid": lambda x: x.unpaid >= x.v,
    "of a slash no more than the catcher's share comes back": lambda x: x.back <= x.alpha * x.sigma * x.S,
}
#: Chances that a check misses; an answer passes both only if it passes each.
_MISSED = (
    *_share("drawn"),
    *_share("looked"),
    *_share("p"),
    *_share("q"),
    lambda x: (x.passes >= 0, x.passes <= 1 - x.p, x.passes <= 1 - x.q),
)

LEMMAS = (
    Lemma(
        "one exit", "losing, silence, conceding and convicting oneself cost v + (1 - alpha) sigma S + k at least",
        "v k alpha sigma S lost unpaid slashed spent back", (*_EXIT, _EXIT_LOSS), _EXITS,
        lambda x: x.lost >= x.v + (1 - x.alpha) * x.sigma * x.S + x.k,
    ),
    Lemma(
        "one exit, whole slash", "the same with sigma S + k: an own fisherman undoes it",
        "v k alpha sigma S lost unpaid slashed spent back", (*_EXIT, _EXIT_LOSS), _EXITS,
        lambda x: x.lost >= x.v + x.sigma * x.S + x.k, false=True,
    ),
    Lemma(
        "two checks", "an answer passes both with chance (1 - rho d)(1 - phi w) at most",
        "drawn looked p q passes", _MISSED,
        {
            "H4: a spot check refuses at its rate": lambda x: x.p >= x.drawn,
            "H4: fishermen convict at theirs": lambda x: x.q >= x.looked,
            "H4 independent": lambda x: x.passes == (1 - x.p) * (1 - x.q),
        },
        lambda x: x.passes <= (1 - x.drawn) * (1 - x.looked),
    ),
    Lemma(
        "two checks, dependent", "without independence it passes with chance 1 - max(rho d, phi w) at most",
        "drawn looked p q passes", _MISSED,
        {
            "H4: a spot check refuses at its rate": lambda x: x.p >= x.drawn,
            "H4: fishermen convict at theirs": lambda x: x.q >= x.looked,
        },
        lambda x: (x.passes <= 1 - x.drawn, x.passes <= 1 - x.looked),
    ),
    Lemma(
        "schedule", "each cheat lowers what a strategy can expect",
        "g v L R G D X", (*_from_zero("v", "L", "R", "G"), *_share("D"), *_share("X")),
        {
            "(*) D (v + L - R G) >= g": lambda x: x.D * (x.v + x.L - x.R * x.G) >= x.g,
            "H4: it is detected at rate D, whatever is known": lambda x: x.X >= x.D,
            "a kind that costs is none to deter": lambda x: x.g > 0,
        },
        lambda x: x.g - x.X * (x.v + x.L - x.R * x.G) <= 0,
    ),
    Lemma(
        "in flight", "what follows a detected cheat brings R G at most",
        "g v R G n each", _from_zero("v", "R", "G", "n"),
        {
            "H10: no more than R follow": lambda x: x.n <= x.R,
            "H6: each of them is void": lambda x: x.each <= x.g - x.v,
            "H10: no kind brings more than G over the price": lambda x: x.g - x.v <= x.G,
        },
        lambda x: x.n * x.each <= x.R * x.G,
    ),
    Lemma(
        "in flight, no freeze", "the same where an answer becomes final before the verdict",
        "g v R G n each", _from_zero("v", "R", "G", "n"),
        {
            "no more than R follow": lambda x: x.n <= x.R,
            "each of them is paid": lambda x: x.each <= x.g,
            "no kind brings more than G over the price": lambda x: x.g - x.v <= x.G,
        },
        lambda x: x.n * x.each <= x.R * x.G, false=True,
    ),
    Lemma(
        "attention", "looking is better than not, whatever others do and however rare cheats are",
        "psi a c u rate", (*_from_zero("a", "c"), *_share("psi"), *_share("rate")),
        {
            "H7: not looking costs more than a look": lambda x: x.psi * x.a > x.c,
            "H8: a right challenge pays": lambda x: x.u >= 0,
        },
        lambda x: -x.c + x.rate * x.u > -x.psi * x.a,
    ),
    Lemma(
        "attention, shared bounty", "a bounty above a look's cost holds it, shared with m more claims",
        "psi beta c m part", (*_from_zero("beta", "c", "m"), *_share("psi")),
        {
            "a planted fault pays a look": lambda x: x.psi * x.beta > x.c,
            "it is shared by claim": lambda x: x.part * (1 + x.m) == x.psi * x.beta,
        },
        lambda x: x.part >= x.c, false=True,
    ),
    Lemma(
        "griefing", "false challenges cost the honest nothing, and their owner ten times the harm",
        "f B kappa m cost", (*_from_zero("f", "B", "m", "cost"), *_share("kappa")),
        {
            "H9: a lost bond pays the defence": lambda x: x.kappa * x.B >= x.cost,
            "H9: and is ten times the harm": lambda x: x.B + x.m >= 10 * x.cost,
        },
        lambda x: (x.f * (x.kappa * x.B - x.cost) >= 0, x.f * (x.B + x.m) >= 10 * x.f * x.cost),
    ),
    Lemma(
        "first detected", "no more than (1 - D)/D cheats come before the first detected one",
        "D passes more X next", (*_share("D"), *_share("passes"), *_from_zero("more", "X"), lambda x: x.D > 0),
        {
            "H4: one passes with chance 1 - D at most": lambda x: x.passes <= 1 - x.D,
            "so far it was so": lambda x: x.more <= x.X,
            "X is (1 - D)/D": lambda x: x.X * x.D == 1 - x.D,
            "one more round": lambda x: x.next == x.passes * (1 + x.more),
        },
        lambda x: x.next <= x.X,
    ),
    Lemma(
        "class fuse", "with a fuse no more than X false answers of a class become final",
        "D X before late final", (*_share("D"), *_from_zero("X", "before", "late")),
        {
            "those before the first detected one": lambda x: x.before <= x.X,
            "a verdict takes no longer than the window": lambda x: x.late <= 0,
            "those that become final before the verdict": lambda x: x.final <= x.before + (1 - x.D) * x.late,
        },
        lambda x: x.final <= x.X,
    ),
    Lemma(
        "proof of sampling", "with phi = alpha = k = 0, sigma = 1, d = 1 - r the rule is that of arXiv 2405.00295",
        "p C r R S D", (*_from_zero("p", "C", "R"), *_share("r"), lambda x: x.S > 0, lambda x: x.r < 1),
        {
            "detection by sampling alone": lambda x: x.p * (1 - x.r) == x.D,
            "its rule: p > C / ((1 - r)(R + S))": lambda x: x.p * (1 - x.r) * (x.R + x.S) > x.C,
        },
        lambda x: x.D * (x.R + x.S) > x.C,
    ),
)  # fmt: skip
