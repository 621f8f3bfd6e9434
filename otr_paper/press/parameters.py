"""Every parameter that a notebook can be run with: unit, range, and where the range comes from. One name means one
thing in all notebooks. Checked before a kernel starts, and again by a notebook's first call."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otr_core.errors import InputError


@dataclass(frozen=True)
class NotebookParameter:
    """What one name may hold.

    Attributes:
        kind: ``str``, ``int``, ``float`` or ``bool``; a whole number serves where a float is asked for, and
            truth values serve where a truth value is asked for alone.
        unit: of the number; "" for words.
        low, high: the range, both ends included. Not used where ``choices`` are named.
        source: where range and meaning come from.
        choices: the values there are, where there are few.
        instant: the text has to be a date, or a date and a time, in ISO 8601.
        longest: most characters of a text.
    """

    kind: type
    unit: str
    source: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()
    instant: bool = False
    longest: int = 0

    def domain(self) -> str:
        """The range in words."""
        if self.kind is bool:
            return "True or False"
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.instant:
            return "an instant in ISO 8601, such as 2024-06-01 or 2024-06-01T00:00:00+00:00"
        if self.kind is str:
            return f"a text of 1 to {self.longest} characters"
        noun = "a whole number" if self.kind is int else "a number"
        return f"{noun} from {self.low:,.10g} to {self.high:,.10g}{f' ({self.unit})' if self.unit else ''}"

    def admits(self, value: Any) -> bool:
        """Whether ``value`` is of the kind and within the range."""
        if self.kind is bool:
            return isinstance(value, bool)
        kinds = (int, float) if self.kind is float else (self.kind,)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        if self.choices:
            return value in self.choices
        if self.instant:
            return is_instant(str(value))
        if isinstance(value, str):
            return len(value.strip()) > 0 and len(value) <= self.longest
        return isinstance(value, (int, float)) and self.low <= value <= self.high


def is_instant(text: str) -> bool:
    """Whether ``text`` is a date, or a date and a time, in ISO 8601."""
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _probability(source: str) -> NotebookParameter:
    return NotebookParameter(float, "probability", source, 0, 1)


def _usd(source: str, low: float = 0) -> NotebookParameter:
    return NotebookParameter(float, "USD", source, low, 1e9)


PARAMETERS: Mapping[str, NotebookParameter] = {
    "mode": NotebookParameter(str, "", "stored results, or long measurements made again", choices=("stored", "fresh")),
    "profile": NotebookParameter(str, "", "the same computation, small or whole", choices=("smoke", "paper")),
    "device": NotebookParameter(str, "", "where a model runs", choices=("cpu", "cuda")),
    "seed": NotebookParameter(int, "", "of every generator; 63 bits, as numpy takes them", 0, 2**63 - 1),
    "as_of": NotebookParameter(str, "", "instant of an appraisal", instant=True),
    "prompt": NotebookParameter(str, "", "SmolLM2's context holds 2,048 tokens", longest=2000),
    "max_tokens": NotebookParameter(int, "tokens", "the notebook's size; forging takes four", 4, 256),
    "layer": NotebookParameter(int, "", "SmolLM2-135M has 30 layers, counted from 0", 0, 29),
    "rho": _probability("spot-check rate; the paper's default is 0.01"),
    "rho_ppm": NotebookParameter(int, "millionths", "spot-check rate as the draw takes it", 0, 1_000_000),
    "live_units": NotebookParameter(int, "units", "a proof each, made live", 1, 16),
    "unit_rows": NotebookParameter(int, "rows", "the circuits there are", choices=(8, 64)),
    "stake_usd": _usd("stake that one answer can lose; some stake is needed", 1e-6),
    "gain_usd": _usd("gain of one cheat"),
    "slash_fraction": _probability("share of a stake that a conviction takes"),
    "reward_share": _probability("share of a slash that goes to the catcher"),
    "base_s": NotebookParameter(float, "s", "an answer without a proof takes at most an hour here", 0, 3600),
    "proof_s": NotebookParameter(float, "s", "a proof takes at most a week here", 0, 604_800),
    "proof_usd": _usd("price of one proof"),
    "load": NotebookParameter(float, "times the trace's rate", "the simulated fleet is sized for about one", 0.01, 10),
    "live": NotebookParameter(bool, "", "whether processes are started now, or a stored run is shown"),
    "attack": NotebookParameter(str, "", "a name of docs/statement_lies.md, or none", longest=120),
    "seconds": NotebookParameter(float, "s", "a live run takes at most a quarter of an hour here", 10, 900),
    "provers": NotebookParameter(int, "machines", "proving machines of the pool", 1, 100_000),
}
#: The parameters that one run gives to all notebooks that declare them, and their values.
COMMON = {name: PARAMETERS[name].choices for name in ("mode", "profile", "device")}


def check_parameters(values: Mapping[str, Any]) -> None:
    """Refuse a value outside its range, before anything is computed with it.

    Raises:
        InputError: one line with the name, what was found, and the range; a name that has none is one.
    """
    for name, value in values.items():
        if name not in PARAMETERS:
            raise InputError(f"{name}: found no range for it, expected one in otr_paper/press/parameters.py")
        if not PARAMETERS[name].admits(value):
            shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}…"
            raise InputError(f"{name}: found {shown}, expected {PARAMETERS[name].domain()}")
