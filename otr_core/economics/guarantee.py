"""The composed guarantee: what must break before a false answer counts, and what that costs whom.

One statement over all three tiers. An adversary owns any number of operators and fishermen, knows
everything public at once, and picks for each answer a kind of cheat theta: its gain ``g`` over
honesty (USD, kept even when caught), the chance ``d`` that a drawn spot check refuses it, the chance
``w`` that a fisherman who looked convicts in time. A cheat is detected with
``D = 1 - (1 - rho d)(1 - phi w)``; the verdict comes later, and up to ``R`` further answers of the
operator are served meanwhile. A conviction costs ``L = (1 - alpha) sigma S + k`` once, and the price
v of every answer that is not final.

* Safety. A false answer becomes final only if the platform is broken, no spot check refuses it and
  nobody convicts: with chance ``1 - D`` at most; and for every final one the adversary loses
  ``L D / (1 - D)`` in expectation, whatever it does.
* Deterrence. If ``D (v + L - R G) >= g`` for every kind, with ``G = max (g - v)^+``, honesty is a best
  reply to every schedule. *Proof.* Let J be the first detected cheat of an operator. Cheats before J
  bring at most g each, J brings ``g - v - L``, and each of at most R later ones is void: at most G.
  With ``Z = g - X (v + L - R G)``, X the detection, the profit is at most the sum of Z over the cheats
  reached; ``E[Z | all known] <= g - D (v + L - R G) <= 0``: a supermartingale with bounded steps,
  stopped at a time of finite mean. What other operators reveal only adds to what is known.
  *Converse.* For one kind, a window as long as the verdict, and no cost of the break: below that loss
  "one cheat a slot until the verdict" (g > v) or "one at a time" (g <= v) pays, so the condition is
  exact; how rare or dear a break is never enters it.
* Class break. ``class_break`` counts false answers of many operators with one broken platform.

What the honest pay, and who looks, stands in ``honesty``; the hypotheses by name in ``premises``.
The lemmas behind each step, with a counter-example for each hypothesis left out, stand in
``otr_paper.studies.lemmas``; ``docs/guarantee.md`` says what of this artifact supports which
hypothesis. All players are risk-neutral. A gain without bound (a position against the operator's own
stake, say) breaks every finite L, and a lane that convicts the honest with chance f adds to their cost.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from otr_core.economics import quantities as q
from otr_core.economics.detection import detection_probability, served_before_verdict, undetected_cheats
from otr_core.economics.premises import require_premises
from otr_core.economics.quantities import Quantity
from otr_core.errors import ParameterError, PremiseError


def deterring_loss(
    *, gain_usd: Quantity, price_usd: Quantity, detection: Quantity, pending: Quantity, late: Quantity = 0
) -> Quantity:
    """Least loss L at which no schedule of cheats pays, USD:
    ``g/D - v + F (g - D v)^+ + (R - F)(g - v)^+``, at least 0.

    Infinity where nothing is ever caught and something is gained.

    Args:
        gain_usd: g of one cheat; price_usd: v of one answer; detection: D of one cheat.
        pending: R, most answers of the operator between a caught cheat and its verdict.
        late: F of them, at most R, that become final before the verdict: 0 where a challenge
            freezes the operator, or the window is as long as a verdict takes. With F above 0 and g
            below v the bound is enough, and not exact.
    """
    gained, price = q.gain("gain_usd", gain_usd), q.amount("price_usd", price_usd)
    caught, others = q.probability("detection", detection), q.count("pending", pending)
    final = q.count("late", late)
    if np.any(final > others):
        raise ParameterError("late", late, f"at most pending = {pending}")
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.where(final > 0, final * np.maximum(gained - caught * price, 0.0), 0.0)
        over = np.where(others > final, (others - final) * np.maximum(gained - price, 0.0), 0.0)
        loss = gained / caught - price + kept + over
    return q.shaped(np.where(gained <= 0, 0.0, np.maximum(loss, 0.0)))


def least_detection(*, gain_usd: Quantity, price_usd: Quantity, loss_usd: Quantity, pending: Quantity) -> Quantity:
    """Least detection of one cheat at which no schedule pays: ``g / (v + L - R (g - v)^+)``.

    0 without a gain; infinity where none does: more is in flight than can be lost.
    """
    gained, price = q.gain("gain_usd", gain_usd), q.amount("price_usd", price_usd)
    over = np.where(np.isposinf(gained), np.inf, np.maximum(gained - price, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = price + q.amount("loss_usd", loss_usd) - q.count("pending", pending) * over
        least = np.where(lost > 0, gained / lost, np.inf)
    return q.shaped(np.where(gained <= 0, 0.0, np.where(least <= 1.0, least, np.inf)))


def most_in_flight(*, gain_usd: float, price_usd: float, loss_usd: float, detection: float) -> float:
    """Most answers out at once (R + 1) at which no schedule of cheats pays.

    Infinity where the price covers the gain and a single cheat is deterred, whatever is in flight;
    0 where a single cheat pays. For a gain above the price: value at risk in flight must not exceed
    what can be lost.
    """
    single = deterring_loss(gain_usd=gain_usd, price_usd=price_usd, detection=detection, pending=0)
    spare = float(q.amount("loss_usd", loss_usd)) - single
    if spare < 0:
        return 0.0
    if gain_usd <= price_usd:
        return np.inf
    return float(np.floor(spare / (gain_usd - price_usd))) + 1.0


def attack_profit(
    *,
    gain_usd: Quantity,
    price_usd: Quantity,
    loss_usd: Quantity,
    detection: Quantity,
    pending: Quantity = 0,
    attempts: Quantity = np.inf,
    break_cost_usd: Quantity = 0.0,
    break_chance: Quantity = 1.0,
) -> Quantity:
    """Profit over honesty of the best schedule of one kind of cheat until the verdict or the patch.

    ``p ([g - D (v + L)] (1 - (1-D)^N)/D + (g - v)^+ E[cheats after the caught one]) - K``. With
    g above v the operator cheats on every answer until its verdict, else on one at a time, and
    leaves the others alone. Its sign without K is the condition of deterrence for N without end.

    Args:
        pending: R, as in ``deterring_loss``. attempts: N, answers until the patch (whole, or
            infinity). break_cost_usd: K, paid in any case; break_chance: p, that the break works.
    """
    caught = q.probability("detection", detection)
    gained, price = q.gain("gain_usd", gain_usd), q.amount("price_usd", price_usd)
    each = gained - caught * (price + q.amount("loss_usd", loss_usd))
    tried = np.asarray(attempts, dtype=np.float64)
    served = served_before_verdict(detection=caught, pending=pending, attempts=tried)
    reached = served_before_verdict(detection=caught, pending=0, attempts=tried)
    with np.errstate(invalid="ignore"):
        slow = np.where(each == 0, 0.0, each * reached)
        after = np.where(served > reached, (served - reached) * np.maximum(gained - price, 0.0), 0.0)
    chance = q.probability("break_chance", break_chance)
    return q.shaped(chance * (slow + after) - q.amount("break_cost_usd", break_cost_usd))


@dataclass(frozen=True, kw_only=True)
class Cheat:
    """One kind of cheat: its gain over honesty, and how it is found out.

    Attributes:
        gain_usd: g, finite. drawn: d, chance that a spot check of the answer refuses it. looked: w, chance that a
            fisherman who looked convicts in time.
    """

    name: str
    gain_usd: float
    drawn: float
    looked: float

    def __post_init__(self) -> None:
        q.probability("drawn", self.drawn)
        q.probability("looked", self.looked)
        if not np.isfinite(q.gain("gain_usd", self.gain_usd)):
            raise PremiseError("H10", f"{self.name}: a gain without bound", "a gain that a contract bounds")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One operator's terms and all kinds of cheats it can choose from.

    Attributes:
        price_usd: v. loss_usd: L, see ``deterrence.loss_if_caught``. rho: rate of spot checks.
        phi: chance that a fisherman looks whom the adversary does not own, see ``honesty.watched_share``.
        pending, late: R and F of ``deterring_loss``.
        cheats: at least one. failing: names of ``premises.HYPOTHESES`` that do not hold.
    """

    price_usd: float
    loss_usd: float
    rho: float
    phi: float
    pending: int
    cheats: tuple[Cheat, ...]
    late: int = 0
    failing: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        q.amount("price_usd", self.price_usd)
        q.amount("loss_usd", self.loss_usd)
        if q.whole("late", self.late) > q.whole("pending", self.pending):
            raise ParameterError("late", self.late, f"at most pending = {self.pending}")
        if not self.cheats:
            raise ParameterError("cheats", self.cheats, "at least one kind of cheat")
        for cheat in self.cheats:
            self.detection(cheat)

    def detection(self, cheat: Cheat) -> float:
        """D of one cheat; without independence the larger of the two rates, which is attained."""
        drawn, looked = self.rho * cheat.drawn, self.phi * cheat.looked
        if "H4 independent" in self.failing:
            q.probability("rho", self.rho)
            q.probability("phi", self.phi)
            return max(drawn, looked)
        return float(detection_probability(rho=self.rho, d=cheat.drawn, phi=self.phi, w=cheat.looked))

    def final_chance(self, cheat: Cheat, *, broken: bool, gate: float) -> float:
        """Most chance that one such answer becomes final.

        Args:
            broken: whether the operator's platform is. gate: chance that a false receipt is refused
                where it is not.

        Raises:
            PremiseError: a hypothesis that safety needs fails.
        """
        require_premises("safety", self.failing)
        return (1.0 if broken else 1.0 - float(q.probability("gate", gate))) * (1.0 - self.detection(cheat))

    def cost_of_final_usd(self) -> float:
        """What each false answer that becomes final costs the adversary in stake, at least, in
        expectation over any strategy: ``L D / (1 - D)`` of its best kind.

        Raises:
            PremiseError: as ``final_chance``.
        """
        require_premises("safety", self.failing)
        worst = min(self.detection(cheat) for cheat in self.cheats)
        return np.inf if worst == 1.0 else self.loss_usd * worst / (1.0 - worst)

    def price_of_best_cheat(self) -> tuple[str, float]:
        """The kind with the largest gain over detection, and that ratio in USD: what the stake must
        cover before anything is in flight. A kind that nothing detects has no finite one."""
        prices = [
            (cheat.name, cheat.gain_usd / caught if caught else np.inf if cheat.gain_usd > 0 else 0.0)
            for cheat in self.cheats
            for caught in [self.detection(cheat)]
        ]
        return max(prices, key=lambda pair: pair[1])

    def deterring_loss_usd(self) -> float:
        """L*, at which no schedule and no mix of kinds pays, USD: ``max g/D - v + R G``; infinite
        where something that pays is never detected.

        Exact for a single kind, enough for more.

        Raises:
            PremiseError: a hypothesis that deterrence needs fails.
        """
        require_premises("deterrence", self.failing)
        needed = self.price_of_best_cheat()[1] - self.price_usd + self._in_flight_usd()
        return max(needed, 0.0) if max(cheat.gain_usd for cheat in self.cheats) > 0 else 0.0

    def deters(self) -> bool:
        """Whether honesty is strictly better than everything else: ``D (v + L - R G) > g`` for all.

        Raises:
            PremiseError: as ``deterring_loss_usd``.
        """
        require_premises("deterrence", self.failing)
        lost = self.price_usd + self.loss_usd - self._in_flight_usd()
        return all(self.detection(cheat) * lost > cheat.gain_usd for cheat in self.cheats)

    def _in_flight_usd(self) -> float:
        """Most that the answers after a caught one can bring: ``F max (g - D v)^+ + (R - F) G``."""
        over = max(max(cheat.gain_usd - self.price_usd, 0.0) for cheat in self.cheats)
        kept = max(max(cheat.gain_usd - self.detection(cheat) * self.price_usd, 0.0) for cheat in self.cheats)
        return self.late * kept + (self.pending - self.late) * over


@dataclass(frozen=True)
class ClassBreak:
    """False answers that a broken class of platforms yields, most in expectation: final ones, and
    those that were served, on which somebody may have acted."""

    final: float
    served: float


def class_break(
    *,
    detection: float,
    operators: int,
    attempts: float,
    answers_per_s: float,
    verdict_s: float,
    window_s: float,
    fuse: bool,
    freeze: bool = True,
    failing: Collection[str] = (),
) -> ClassBreak:
    """What a malicious owner of one break does with ``operators`` identities on such platforms.

    Without a fuse each operator is ended by its own conviction. With it the first conviction of a
    correctly attested false answer holds up all that is not final of the class, until it is run
    again: then the number neither grows with the operators nor with the time to the patch, but what
    becomes final between the first detected answer and its verdict is lost where the window is
    shorter than the verdict takes, for a challenge freezes one operator and not its class.

    Args:
        detection: D of each cheat. attempts: N, answers of each operator until the patch, whole or
            infinity. answers_per_s: of each. verdict_s: longest time from commitment to verdict.
        window_s: in which an answer can be challenged. fuse: whether there is one.
        freeze: whether an open challenge freezes its operator.

    Raises:
        PremiseError: a hypothesis that the count needs fails.
    """
    require_premises("class break", failing)
    caught, number = float(q.probability("detection", detection)), q.whole("operators", operators, least=1)
    rate, takes = float(q.amount("answers_per_s", answers_per_s)), float(q.amount("verdict_s", verdict_s))
    open_s = max(takes - float(q.amount("window_s", window_s)), 0.0)
    pending, late = max(np.ceil(rate * takes), 1.0) - 1.0, np.floor(rate * open_s)
    each = float(undetected_cheats(detection=caught, attempts=attempts))
    alone = number * float(served_before_verdict(detection=caught, pending=pending, attempts=attempts))
    total = number * (each + (0.0 if freeze else late * (1.0 - caught)))
    total = min(total, number * attempts * (1.0 - caught))
    if not fuse:
        return ClassBreak(total, alone)
    # The others answer when they like: in any stretch of time one more than its length says.
    others_late = (late + 1.0) * (number - 1) + late if open_s > 0 else 0.0
    together = float(undetected_cheats(detection=caught, attempts=number * attempts)) + others_late * (1.0 - caught)
    flying = number * (pending + 1.0) - 1.0
    served = float(served_before_verdict(detection=caught, pending=flying, attempts=number * attempts))
    return ClassBreak(min(total, together), min(alone, served))
