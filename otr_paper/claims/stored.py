"""The stored studies, as the claims read them: beside the published rows, in ``data/results``."""

from __future__ import annotations

from typing import Any

from otr_core.encoding import parse_json
from otr_core.errors import DataError
from otr_paper.claims.published import Published

RESULT, SWEEP, SUMMARIES = "simulation", "simulation_sweep", "trace_summaries"


def result(published: Published, name: str = RESULT) -> dict[str, Any]:
    """The payload of one stored study.

    Raises:
        DataError: it is not there, or unreadable.
    """
    path = published.data_dir / "results" / f"{name}.json"
    try:
        found: dict[str, Any] = parse_json(path.read_bytes(), what=path.name)["result"]
        return found
    except (OSError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a stored simulation ({error}); restore it from git, or run make bench") from error


def latency(published: Published, system: str, kind: str, statistic: str = "mean") -> float:
    """One stored latency of the four systems on the conversation trace, s.

    Raises:
        DataError: the kind is unstable, or the system has none such.
    """
    for record in result(published)["latency"]:
        if (record["system"], record["kind"]) == (system, kind) and not record["unstable"]:
            return float(record[statistic]["value"])
    raise DataError(f"stored simulation: found no stable {kind} of {system}")


def cost_usd(published: Published, system: str, case: str = "Base", item: str = "") -> float:
    """A query's stored cost in one case of ``study.CASES``: of one item, or of all together, USD.

    Raises:
        DataError: no such system, case or item.
    """
    found = [
        float(record["usd"])
        for record in result(published)["cost"]
        if (record["system"], record["case"]) == (system, case) and item in ("", record["item"])
    ]
    if not found:
        raise DataError(f"stored simulation: found no cost of {system} {item!r} in case {case!r}")
    return sum(found)
