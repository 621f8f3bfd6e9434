"""Use cases as data: ``data/scenarios/*.toml``, every number with its source and date.

A scenario has a title, a sentence ``about`` it, and one table per part of ``model`` plus
``limits``; ``attention`` may be left out, where nobody tests fishermen, and ``deployment``, where no court
is deployed. ``failing`` names hypotheses
of the guarantee (``premises``) that do not hold there. Each number is written as
``{ value = ..., source = "...", date = "..." }``, with a date that exists; a source that begins with
"assumption" says it is ours.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from otr_core.economics import quantities as q
from otr_core.economics.model import AnswerValue, Attention, Bond, Exposure, Flow, Market, Watch, build
from otr_core.economics.premises import HYPOTHESES
from otr_core.errors import InputError, MissingDataError, ParameterError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the use case can bear, and how wrong its numbers may be.

    Attributes:
        most_stake_usd: largest stake an operator can be asked for.
        most_cost_usd: largest cost of checking per query (proofs plus interest on the stake).
        most_wait_s: longest the user can wait before acting on the answer.
        most_harm_usd: largest expected harm per query at which it acts on a provisional one.
        proof_s: seconds one proof takes one prover; provers: how many there are per operator.
        gain_margin: the gain may be this many times larger, 1 or more; proof_cost_margin: so may a
            proof's cost.
        detection_margin: a sampled cheat may be caught only this often of what d says, (0, 1].
    """

    most_stake_usd: float
    most_cost_usd: float
    most_wait_s: float
    most_harm_usd: float
    proof_s: float
    provers: float
    gain_margin: float = 1.0
    proof_cost_margin: float = 1.0
    detection_margin: float = 1.0

    def __post_init__(self) -> None:
        q.positive("most_stake_usd", self.most_stake_usd)
        for name in ("most_cost_usd", "most_wait_s", "most_harm_usd", "proof_s", "provers"):
            q.amount(name, getattr(self, name))
        for name in ("gain_margin", "proof_cost_margin"):
            if q.amount(name, getattr(self, name)) < 1:
                raise ParameterError(name, getattr(self, name), "a finite number, 1 or more")
        if q.probability("detection_margin", self.detection_margin) == 0:
            raise ParameterError("detection_margin", self.detection_margin, "a share above 0, at most 1")


@dataclass(frozen=True, kw_only=True)
class CourtChoices:
    """What a court takes beside what is sized: the price of ether, and what nothing here computes.

    Attributes:
        eth_usd: of one ether, above 0.
        arity_bits, window_s, reveal_s, clock_s, increment_s, exit_s, claim_s, duty_s, pause_s,
            compensation_bps, cap_bps, cost_wei: as of ``dispute.records.Terms``, whole numbers.
        batch_s, move_s, margin_s, patience_s: as of ``dispute.profile.PartyTerms``, whole numbers.
    """

    eth_usd: float
    arity_bits: int
    window_s: int
    reveal_s: int
    clock_s: int
    increment_s: int
    exit_s: int
    claim_s: int
    duty_s: int
    pause_s: int
    compensation_bps: int
    cap_bps: int
    cost_wei: int
    batch_s: int
    move_s: int
    margin_s: int
    patience_s: int

    def __post_init__(self) -> None:
        q.positive("eth_usd", self.eth_usd)
        for own in fields(self):
            if own.name != "eth_usd" and type(getattr(self, own.name)) is not int:
                raise ParameterError(own.name, getattr(self, own.name), "a whole number")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One use case; ``sources`` maps ``part.key`` to source and date, ``failing`` names the hypotheses
    of ``premises`` that do not hold."""

    name: str
    title: str
    about: str
    answer: AnswerValue
    bond: Bond
    watch: Watch
    market: Market
    flow: Flow
    exposure: Exposure
    limits: Limits
    sources: Mapping[str, str]
    attention: Attention | None = None
    deployment: CourtChoices | None = None
    failing: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("verdict_s", "patch_s"):
            answers = self.exposure.cheating * self.flow.queries_per_s * getattr(self.flow, name)
            if not answers <= q.MOST_COUNTED:
                what = f"cheating * queries_per_s * {name}"
                raise ParameterError(what, answers, f"at most {q.MOST_COUNTED:.0f} answers, which are counted")


_PARTS: dict[str, Any] = {
    "answer": AnswerValue,
    "bond": Bond,
    "watch": Watch,
    "market": Market,
    "flow": Flow,
    "exposure": Exposure,
    "attention": Attention,
    "limits": Limits,
    "deployment": CourtChoices,
}
_NOT_NEEDED = ("attention", "deployment")


def parse(name: str, text: str) -> Scenario:
    """The scenario in ``text`` (TOML), named ``name``.

    Raises:
        InputError: not TOML.
        ParameterError: an unknown or missing key, a number without source or date, a value outside
            its range.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a bare ValueError
        raise InputError(f"scenario {name}: not readable as TOML ({error})") from error
    for key in document:
        if key not in ("title", "about", "failing", *_PARTS):
            raise ParameterError(f"{name}.{key}", document[key], f"only title, about, failing and {sorted(_PARTS)}")
    failing = document.get("failing", [])
    if not isinstance(failing, list) or not all(one in list(HYPOTHESES) for one in failing):
        raise ParameterError(f"{name}.failing", failing, f"a list of {list(HYPOTHESES)}")
    for key in ("title", "about"):
        if not isinstance(document.get(key), str) or not document[key].strip():
            raise ParameterError(f"{name}.{key}", document.get(key), "text that is not empty")
    parts, sources = {}, {}
    for part, kind in _PARTS.items():
        if part in _NOT_NEEDED and part not in document:
            continue
        table = document.get(part)
        if not isinstance(table, dict):
            raise ParameterError(f"{name}.{part}", table, "a table of numbers")
        values = {}
        for key, entry in table.items():
            if not isinstance(entry, dict) or sorted(entry) != ["date", "source", "value"]:
                raise ParameterError(f"{name}.{part}.{key}", entry, "value, source and date")
            if not all(isinstance(entry[word], str) and entry[word].strip() for word in ("source", "date")):
                raise ParameterError(f"{name}.{part}.{key}", entry, "a source and a date in words")
            if not q.dated(entry["date"]):
                raise ParameterError(f"{name}.{part}.{key}", entry["date"], "a date that exists, such as 2026-11")
            whole = kind is CourtChoices and isinstance(entry["value"], int)  # wei, of any size
            values[key] = entry["value"] if whole else q.given(f"{name}.{part}.{key}", entry["value"])
            sources[f"{part}.{key}"] = f"{entry['source']} ({entry['date']})"
        known = {own.name: own.default for own in fields(kind)}
        missing = [key for key, default in known.items() if default is MISSING and key not in values]
        # An unknown name may be a missing one misspelt: ``build`` says that.
        if missing and values.keys() <= known.keys():
            raise ParameterError(f"{name}.{part}.{missing[0]}", None, "value, source and date")
        parts[part] = build(kind, values)
    return Scenario(
        name=name,
        title=document["title"],
        about=document["about"],
        sources=sources,
        failing=frozenset(failing),
        **parts,
    )


def load(data_dir: Path | str) -> dict[str, Scenario]:
    """Every scenario of ``data_dir/scenarios``, by file name, in the order of their names.

    Raises:
        MissingDataError: none there. Else as ``parse``.
    """
    folder = Path(data_dir) / "scenarios"
    files = sorted(folder.glob("*.toml"))
    if not files:
        raise MissingDataError(f"{folder}: no scenarios/*.toml here; restore them from the repository")
    return {path.stem: parse(path.stem, path.read_text(encoding="utf-8")) for path in files}
