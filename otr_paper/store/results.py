"""Stored results: long or hardware-dependent measurements, each with the card that says how it was
made."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from otr_core.dispute.profile import DeploymentProfile, profile_numbers
from otr_core.encoding import parse_json
from otr_core.errors import DataError, InputError
from otr_core.files import write_text

VERSIONED = ("numpy", "torch", "transformers", "cryptography", "ezkl")


@dataclass(frozen=True)
class Card:
    """How a result was made.

    Attributes:
        command: what anyone runs to make it again.
        date: ISO day of the measurement.
        machine: processor, cores and system, in words.
        versions: package -> version.
        seed: the seed, or None where nothing is random.
        kind: measured | recomputed | simulated.
    """

    command: str
    date: str
    machine: str
    versions: Mapping[str, str]
    seed: int | None
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in ("measured", "recomputed", "simulated"):
            raise InputError(f"card kind: found {self.kind!r}, expected measured, recomputed or simulated")
        for name in ("command", "date", "machine"):
            if not getattr(self, name):
                raise InputError(f"card {name}: found nothing, expected a text")


def this_machine(cores: int) -> str:
    """The machine in words: processor model, cores, system. No host name, no path."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {cores} cores, {platform.system()} {platform.machine()}, Python {sys.version.split()[0]}"


def versions(packages: tuple[str, ...] = VERSIONED) -> dict[str, str]:
    """Installed versions, local suffixes such as +cpu left off."""
    return {name: importlib.metadata.version(name).split("+")[0] for name in packages}


def card_of_now(
    command: str,
    *,
    packages: tuple[str, ...] = VERSIONED,
    seed: int | None = None,
    kind: str = "measured",
    cores: int | None = None,
) -> Card:
    """The card of what ``command`` makes here and today.

    Args:
        packages: whose versions it states. cores: how many were used, None for all.
    """
    machine = this_machine(cores or os.cpu_count() or 1)
    return Card(command, datetime.now(UTC).date().isoformat(), machine, versions(packages), seed, kind)


def write_result(folder: Path, name: str, card: Card, payload: Mapping[str, Any]) -> Path:
    """Write ``name``.json with its card, whole."""
    path = folder / f"{name}.json"
    write_text(path, json.dumps({"card": asdict(card), "result": payload}, indent=1, sort_keys=True) + "\n")
    return path


def read_result(folder: Path, name: str) -> tuple[Card, dict[str, Any]]:
    """A stored result and its card.

    Raises:
        DataError: absent, or without a complete card.
    """
    path = folder / f"{name}.json"
    try:
        document = parse_json(path.read_bytes(), what=path.name)
        return Card(**document["card"]), document["result"]
    except (OSError, KeyError, TypeError, InputError) as error:
        raise DataError(f"{path}: not a stored result with its card ({error}); restore it from git") from error


def check_made_with(name: str, stored: Mapping[str, int], profile: DeploymentProfile, again: str) -> None:
    """Refuse a stored result of another deployment than the profile's.

    Args:
        name: of the result. stored: the numbers it was made with. again: what makes it again.

    Raises:
        DataError: one of them is another in the profile.
    """
    own = profile_numbers(profile)
    for number, value in stored.items():
        if own.get(number) != value:
            raise DataError(
                f"{name}: made with {number} {value}, the profile says {own.get(number)}; make it again: {again}"
            )
