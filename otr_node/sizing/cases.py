"""What ``otr economics`` shows of a use case: rate and stake as stated, the least, and advised."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from otr_core.economics.detection import detection_probability
from otr_core.economics.guarantee import deterring_loss, least_detection
from otr_core.economics.guidance import Guidance, guide
from otr_core.economics.scenarios import Scenario, parse
from otr_core.errors import InputError
from otr_core.files import read_input

ROW_HEAD = ["", "check this share", "stake, USD", "a cheat is caught with", ""]


@dataclass(frozen=True)
class Sizing:
    """One use case, sized: against every schedule of cheats, the operator being its own catcher. What is
    stated and least counts spot checks alone; the advice counts fishermen where ``guidance`` does.

    Attributes:
        rho, stake_usd: as the use case states them; detection: probability that one cheat is then
            caught.
        least_rho: least rate that deters at the stated stake, infinite where none does.
        least_stake_usd: least stake that deters at the stated rate, infinite where none does.
            Neither has margins.
        advice: the recommended pair, with the use case's margins.
    """

    scenario: Scenario
    rho: float
    stake_usd: float
    detection: float
    least_rho: float
    least_stake_usd: float
    advice: Guidance

    def document(self) -> dict[str, Any]:
        """Plain values. JSON has no infinity: None says that nothing is enough, or limits."""
        given = {"rho": self.rho, "stake_usd": self.stake_usd, "detection": self.detection}
        least = {"rho": self.least_rho, "stake_usd": self.least_stake_usd}
        advice = asdict(self.advice)
        del advice["name"], advice["title"]
        return {
            "name": self.scenario.name,
            "title": self.scenario.title,
            "about": self.scenario.about,
            "given": _finite(given),
            "least": _finite(least),
            "recommended": _finite(advice),
        }

    @property
    def sentence(self) -> str:
        """The advice in words, with what sets it and when the user may act."""
        words = self.advice.statement.removeprefix(f"{self.scenario.title}: ")
        bounty = (
            f"no look while nobody cheats: that takes a bounty of {_usd(self.advice.least_bounty_usd, 'no size')} USD"
        )
        looks = "a fisherman's look" if self.advice.look_pays else bounty
        return f"{words[0].upper()}{words[1:]} The user's part: {self.advice.acts}. Planted faults pay {looks}."

    def rows(self) -> list[list[str]]:
        """The table of a terminal, in the order of ``ROW_HEAD``."""
        none = "none is enough"
        least_rho = _number(self.least_rho, none)
        least_detection = _number(_caught(self.scenario, min(self.least_rho, 1.0)))
        given, stake = _number(self.rho), _usd(self.stake_usd)
        advised = [_number(self.advice.rho), _usd(self.advice.stake_usd, none), _number(self.advice.detection)]
        name = "recommended" if self.advice.deters else "what it would take"
        cost = f"{_number(self.advice.cost_usd)} USD a query"
        return [
            ["as stated", given, stake, _number(self.detection), ""],
            ["least rate for that stake", least_rho, stake, least_detection, ""],
            ["least stake for that rate", given, _usd(self.least_stake_usd, none), _number(self.detection), ""],
            [f"{name}, with margins", *advised, cost],
        ]


def size_case(scenario: Scenario) -> Sizing:
    """The least rate, the least stake and the recommended pair for ``scenario``."""
    answer, watch, bond = scenario.answer, scenario.watch, scenario.bond
    cheat: dict[str, float] = {
        "gain_usd": answer.gain_usd,
        "price_usd": answer.price_usd,
        "pending": scenario.flow.pending,
    }
    kept, detection = bond.kept_share, _caught(scenario, watch.rho)
    least = float(least_detection(**cheat, loss_usd=kept * bond.stake_usd))
    rate = least / watch.d if watch.d else math.inf if least else 0.0
    loss = float(deterring_loss(**cheat, detection=detection))
    advice = guide(scenario)
    return Sizing(
        scenario=scenario,
        rho=watch.rho,
        stake_usd=bond.stake_usd,
        detection=detection,
        least_rho=rate if rate <= 1.0 else math.inf,
        least_stake_usd=loss / kept if kept else math.inf if loss else 0.0,
        advice=advice,
    )


def read_scenario(path: Path) -> Scenario:
    """The use case in a TOML file, named after the file.

    Raises:
        InputError: the file is unreadable. Else as ``scenarios.parse``.
    """
    raw = read_input(path, what="a use case (TOML, as in data/scenarios)")
    try:
        return parse(path.stem, raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: found bytes that are not UTF-8, expected TOML") from error


def _caught(scenario: Scenario, rho: float) -> float:
    return float(detection_probability(rho=rho, d=scenario.watch.d, phi=0.0, w=0.0))


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}


def _number(value: float, infinite: str = "") -> str:
    return f"{value:.3g}" if math.isfinite(value) else infinite


def _usd(amount: float, infinite: str = "") -> str:
    return f"{amount:,.0f}" if 100 <= amount < math.inf else _number(amount, infinite)
