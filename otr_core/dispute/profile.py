"""The profile of a deployment: terms of its court, and what its parties keep to.

One document says them (``data/deployment.toml``, or one's own); whoever deploys a court, watches
it, simulates it or judges a claim by it reads them from there. ``parse_profile`` is the rule;
``read_profile`` and ``own_profile`` are where files are read. Each number is written as
``{ value = ..., unit = "...", source = "..." }``.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from otr_core.dispute.records import BASIS, Terms
from otr_core.dispute.registry import NOTICE_S
from otr_core.errors import InputError, ParameterError
from otr_core.files import data_folder, read_input

FILE = "deployment.toml"
"""Name of the profile in a folder ``data``."""
UNITS = {"bits": "bit", "s": "s", "wei": "wei", "bps": "bp", "usd": "USD"}
"""Last part of a name -> the unit that a document states beside its value."""
MOST_S, MOST_USD = 2**31, 10**9
_MOST_BYTES = 2**16
_Part = TypeVar("_Part")


def unit_of(name: str) -> str:
    """The unit of a number, by its name."""
    return UNITS[name.rpartition("_")[2]]


class ProfileError(InputError):
    """A document is no profile of a deployment.

    Attributes:
        field: section and name of the number at fault, or what of the document is.
    """

    def __init__(self, field: str, found: object, expected: str) -> None:
        self.field = field
        shown = repr(found)
        super().__init__(
            f"profile {field}: found {shown if len(shown) <= 80 else shown[:79] + '…'}, expected {expected}"
        )


@dataclass(frozen=True)
class PartyTerms:
    """What operators and fishermen of a deployment keep to, which no contract enforces: seconds,
    and one sum in USD.

    Attributes:
        batch_s: between two batches of an operator. move_s: that an honest move takes.
        margin_s: before the end of a window, from which on nobody begins a challenge.
        patience_s: for which a fisherman waits for the place of a receipt before it demands it.
        proof_s: the longest proof of a drawn answer. stake_usd: that one answer can lose, where
            sums are in USD.
    """

    batch_s: int
    move_s: int
    margin_s: int
    patience_s: int
    proof_s: int
    stake_usd: int

    def __post_init__(self) -> None:
        for own in fields(self):
            value, most = getattr(self, own.name), MOST_USD if own.name == "stake_usd" else MOST_S
            if not 1 <= value <= most:
                raise ParameterError(own.name, value, f"1 to {most:,}")


@dataclass(frozen=True)
class DeploymentProfile:
    """One deployment, whose numbers fit together.

    What has to hold between them, beside each one's range:

    * a challenge can still be begun: ``margin_s`` is shorter than ``window_s``.
    * an honest move fits into what it gains: ``move_s`` is no longer than ``increment_s``.
    * who has to show a proof has the time to make one: ``proof_s`` and a margin fit into ``duty_s``.
    * nothing is demanded that the next batch may hold: ``patience_s`` is longer than ``batch_s``.
    * a batch that is on its way when its key is revoked still counts: ``batch_s`` is no longer than
      the notice of a revocation.
    * an operator gains nothing by freezing itself: challenges that are never opened, one after the
      other over a window, cost more in bonds than the catcher's share of its stake.

    Attributes:
        court: its terms. parties: what its parties keep to. sources: ``section.name`` -> where the
            number comes from.

    Raises:
        ParameterError: one of these does not hold.
    """

    court: Terms
    parties: PartyTerms
    sources: Mapping[str, str]

    def __post_init__(self) -> None:
        court, parties = self.court, self.parties
        frozen = (court.window_s // (court.reveal_s + 1) + 1) * court.bond_wei
        reward = court.least_stake_wei * court.slash_bps * court.reward_bps // BASIS**2
        for name, found, good, allowed in (
            ("margin_s", parties.margin_s, parties.margin_s < court.window_s, "less than court.window_s"),
            ("move_s", parties.move_s, parties.move_s <= court.increment_s, "at most court.increment_s"),
            (
                "proof_s",
                parties.proof_s,
                parties.proof_s + parties.margin_s <= court.duty_s,
                "at most court.duty_s less parties.margin_s",
            ),
            ("patience_s", parties.patience_s, parties.patience_s > parties.batch_s, "more than parties.batch_s"),
            (
                "batch_s",
                parties.batch_s,
                parties.batch_s <= NOTICE_S,
                f"at most {NOTICE_S}, the notice of a revocation",
            ),
            (
                "bond_wei",
                court.bond_wei,
                frozen > reward,
                f"so much that unopened challenges over a window cost more than a catcher gets, {reward} wei",
            ),
        ):
            if not good:
                raise ParameterError(name, found, allowed)


def parse_profile(text: str) -> DeploymentProfile:
    """The profile in ``text`` (TOML).

    Raises:
        ProfileError: not TOML; a missing or unknown section or name; a number that is no whole
            number, without source or of another unit; one outside its range; numbers that do not
            fit together.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a bare ValueError
        raise ProfileError("document", str(error), "TOML") from error
    parts: dict[str, type[Any]] = {"court": Terms, "parties": PartyTerms}
    _names("document", document, parts)
    sources: dict[str, str] = {}
    made = {name: _part(name, kind, document[name], sources) for name, kind in parts.items()}
    return _fitting("profile", DeploymentProfile, sources=sources, **made)


def _names(where: str, found: object, expected: Mapping[str, Any]) -> None:
    if not isinstance(found, dict) or found.keys() != expected.keys():
        shown = sorted(set(found) ^ set(expected)) if isinstance(found, dict) else found
        raise ProfileError(where, shown, f"all of {', '.join(expected)}, and no other")


def _part(section: str, kind: type[_Part], table: object, sources: dict[str, str]) -> _Part:
    """One section; notes where its numbers come from."""
    names = {own.name: own for own in fields(kind)}  # type: ignore[arg-type]
    _names(section, table, names)
    assert isinstance(table, dict)
    for name, entry in table.items():
        where, unit = f"{section}.{name}", unit_of(name)
        _names(where, entry, dict.fromkeys(("value", "unit", "source")))
        if type(entry["value"]) is not int:
            raise ProfileError(where, entry["value"], "a whole number")
        if entry["unit"] != unit:
            raise ProfileError(where, entry["unit"], f"the unit {unit}")
        if not isinstance(entry["source"], str) or not entry["source"].strip():
            raise ProfileError(where, entry["source"], "where the number comes from, in words")
        sources[where] = entry["source"]
    return _fitting(section, kind, **{name: entry["value"] for name, entry in table.items()})


def _fitting(where: str, kind: type[_Part], **values: Any) -> _Part:
    try:
        return kind(**values)
    except ParameterError as error:
        raise ProfileError(f"{where}.{error.field}", error.found, error.allowed) from error


def profile_numbers(profile: DeploymentProfile) -> dict[str, int]:
    """Every number of a profile, by section and name, as ``court.window_s``."""
    parts = {"court": profile.court, "parties": profile.parties}
    return {f"{part}.{name}": value for part, own in parts.items() for name, value in vars(own).items()}


def read_profile(path: Path) -> DeploymentProfile:
    """The profile in a file.

    Raises:
        ProfileError: as ``parse_profile``. InputError: there is no such file, or it is too large.
    """
    raw = read_input(path, what="a profile of a deployment (TOML, as data/deployment.toml)", limit_bytes=_MOST_BYTES)
    try:
        return parse_profile(raw.decode())
    except UnicodeDecodeError as error:
        raise ProfileError("document", str(error), "text in UTF-8") from error


@functools.cache
def own_profile() -> DeploymentProfile:
    """The profile that ships with the data of this installation."""
    return read_profile(data_folder() / FILE)
