"""What a claim is judged by: the published rows, and the stored results of this project.

A claim function takes one argument, and its type says what the function may read. With ``published:
Published`` it reads the published rows and nothing else. With ``grounds: Grounds`` it also reads
stored results, each of which passes the check of its card when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from otr_core.dispute.profile import FILE, DeploymentProfile, read_profile
from otr_core.errors import DataError
from otr_paper.claims.published import Published, load_published
from otr_paper.poq import scores
from otr_paper.poq.scores import Measured
from otr_paper.simulation import SIMULATION
from otr_paper.store.results import check_made_with, read_result

_Made = TypeVar("_Made")


class Grounds:
    """The published rows and the stored results below one ``data`` folder, read lazily and once.

    Args:
        data: the folder ``data`` of a checkout.
        published: rows to take in place of those in ``data/published``.
        results: payloads to take in place of the stored ones, by name. profile: a deployment to take in
            place of that in ``data``.
    """

    def __init__(
        self,
        data: Path,
        *,
        published: Published | None = None,
        results: Mapping[str, Mapping[str, Any]] | None = None,
        profile: DeploymentProfile | None = None,
    ) -> None:
        self.data = data
        self._results: dict[str, Mapping[str, Any]] = dict(results or {})
        self._memo: dict[str, Any] = {}
        if published is not None:
            self.published = published
        if profile is not None:
            self.profile = profile

    @cached_property
    def published(self) -> Published:
        """All published rows."""
        return load_published(self.data)

    @cached_property
    def profile(self) -> DeploymentProfile:
        """The deployment: terms of the court, and what its parties keep to."""
        return read_profile(self.data / FILE)

    def result(self, name: str) -> Mapping[str, Any]:
        """The payload of ``data/results/<name>.json``.

        Raises:
            DataError: it is absent, or without a complete card.
        """
        if name not in self._results:
            self._results[name] = read_result(self.data / "results", name)[1]
        return self._results[name]

    def memo(self, name: str, make: Callable[[], _Made]) -> _Made:
        """What ``make`` gives, made once for these grounds and for every variant of them: for what
        hangs on no row that a variant changes."""
        if name not in self._memo:
            self._memo[name] = make()
        made: _Made = self._memo[name]
        return made

    def variant(self, factors: Mapping[str, float]) -> Grounds:
        """The same stored results beside published rows of which some are scaled (``Published.scaled``)."""
        other = Grounds(self.data, published=self.published.scaled(factors), profile=self.profile)
        other._results, other._memo = self._results, self._memo
        return other

    @property
    def simulation(self) -> StoredSimulation:
        """The stored simulation of the four systems on the conversation trace.

        Raises:
            DataError: it was made with another window, other clocks or batches than the deployment has.
        """
        payload = self.result(SIMULATION)
        check_made_with(SIMULATION, payload["deployment"], self.profile, "python -m otr_paper.producers.simulation")
        return StoredSimulation(payload)

    @cached_property
    def poq(self) -> Measured:
        """The numbers of the stored experiment on Proof of Quality."""
        return self.memo("poq", lambda: scores.measured(scores.read_experiment(self.result(scores.RESULT))))


class StoredSimulation:
    """The stored simulation, asked by system, kind and case.

    Attributes:
        payload: of ``data/results/simulation.json``, as ``simulation.study.four_systems`` made it.
    """

    def __init__(self, payload: Mapping[str, Any]) -> None:
        self.payload = payload

    def latency_s(self, system: str, kind: str, statistic: str = "mean") -> float:
        """One latency, s.

        Args:
            kind: one of ``simulation.run.KINDS``. statistic: mean, p50 or p99.

        Raises:
            DataError: the kind is unstable, or the system has none such.
        """
        for record in self.payload["latency"]:
            if (record["system"], record["kind"]) == (system, kind) and not record["unstable"]:
                return float(record[statistic]["value"])
        raise DataError(f"stored simulation: found no stable {kind} of {system}")

    def cost_usd(self, system: str, case: str = "Base", item: str = "") -> float:
        """What a query costs in one case of ``simulation.study.CASES``: one item of it, or all
        together, USD.

        Raises:
            DataError: no such system, case or item.
        """
        found = [
            float(record["usd"])
            for record in self.payload["cost"]
            if (record["system"], record["case"]) == (system, case) and item in ("", record["item"])
        ]
        if not found:
            raise DataError(f"stored simulation: found no cost of {system} {item!r} in case {case!r}")
        return sum(found)
