"""Provers of others beside ours: a table of notebook 04, out of one stored run and of what others printed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from otr_core.errors import DataError
from otr_paper.claims.landscape import proving_points
from otr_paper.claims.published import Published
from otr_paper.store.records import Records, records

#: By system: what a proof of it says, what is set up before, what its verifier holds, and what it hides.
WHAT: Mapping[str, tuple[str, str, str, str]] = {
    "ezkl": (
        "one product, rounded",
        "trusted: a reference string; keys for each shape",
        "keys, points of the weights",
        "all, but points without blinding can be tried out",
    ),
    "JSTprove": (
        "one product, rounded",
        "none trusted; a circuit for each matrix",
        "a circuit that has the weights in it",
        "no input, output or weight; the rest was not looked into",
    ),
    "ours, model held": ("every token of an answer", "none", "the model", "nothing"),
    "ours, commitment held": (
        "every token of an answer",
        "none trusted; a commitment to the model",
        "the commitment",
        "nothing",
    ),
}


def peers(measured: Mapping[str, Any]) -> Records:
    """Records of system, work, products (multiplications of a weight), prove_s (CPU; of ours with running the
    model, of the others without their witness), us_weight and us_product (microseconds of that), proof_kb,
    check_s, peak_mb, setup_s, setup_mb, and says, set_up, holds, hides.

    Args:
        measured: payload of ``proof_peers``.

    Raises:
        DataError: a system of which nothing is said here.
    """
    rows = []
    for row in measured["rows"]:
        if row["system"] not in WHAT:
            raise DataError(f"proof_peers: found {row['system']}, expected one of {', '.join(WHAT)}")
        products, seconds = row["weights"] * row["positions"], row["prove_cpu_s"]
        places = f"{row['positions']} position" + "s" * (row["positions"] > 1)
        rows.append(
            (
                *(row["system"], f"{row['work']}, {places}", products, seconds),
                *(1e6 * seconds / row["weights"], 1e6 * seconds / products),
                *(row["proof_bytes"] / 1e3, row["check_cpu_s"], row["peak_mb"]),
                *(row["setup_cpu_s"], row["setup_bytes"] / 1e6, *WHAT[row["system"]]),
            )
        )
    names = "system, work, products, prove_s, us_weight, us_product, proof_kb, check_s, peak_mb, setup_s, setup_mb"
    return records(f"{names}, says, set_up, holds, hides", rows)


def printed(published: Published) -> Records:
    """What others printed of whole models: records of system, model, hardware, prove_s, us_weight (of wall time,
    on whatever hardware), proof_kb and check_s (NaN where neither is printed), level."""
    rows = []
    for row, system, params, seconds in proving_points(published):
        own = published[row]
        beside = {}
        for what, unit in (("proof", "kB"), ("verify", "s")):
            name = f"{row.removesuffix('.prove')}.{what}"
            beside[what] = published.number(name, unit) if name in published else math.nan
        model = own.subject.partition(": ")[2] or own.subject
        hardware = own.setting or "not stated"
        figures = (1e6 * seconds / params, beside["proof"], beside["verify"])
        rows.append((system, model, hardware, seconds, *figures, own.level))
    return records("system, model, hardware, prove_s, us_weight, proof_kb, check_s, level", rows)
