"""The page of explorers: pictures that move without a kernel, fed from the figures' CSV files.

Without JavaScript the page shows the same figures as pictures. The script is docs/site/static/explorers.js.
"""

from __future__ import annotations

import csv
import html
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otr_node.project import Project
from otr_paper.claims.published import load_published

#: Figure behind each explorer, by the name its data have in the page.
SOURCES = {
    "dispute": "F08_one_dispute",
    "stake": "F14_deterrence_map",
    "cost": "F21_cost_by_payer",
    "calendar": "F03_verdict_over_time",
}
PRICE_USD = 0.00055
"""Price of an answer in the stake map, as in notebook 05 (cited token prices)."""


@dataclass(frozen=True)
class Control:
    """A slider. ``low`` and ``high`` are powers of ten where ``log`` is set, else values.

    Attributes:
        named: its values are numbers of things with names, from ``low`` on, which the data hold; ``high`` counts them.
    """

    name: str
    label: str
    low: float
    high: float
    start: float
    log: bool = True
    named: bool = False


RHO = Control("rho", "spot-check rate ρ (%)", -3, 2, 1)
CONTROLS: dict[str, tuple[Control, ...]] = {
    "dispute": (Control("move", "move of the dispute", 1, 15, 1, log=False),),
    "stake": (
        RHO,
        Control("stake", "stake per answer (USD)", -2, 7, 100),
        Control("gain", "gain of a cheat (USD)", -4, 6, 10),
        Control("slashed", "share of the stake slashed", 0, 1, 1, log=False),
        Control("returned", "share of a slash that comes back", 0, 1, 0.3, log=False),
    ),
    "cost": (
        RHO,
        Control("base", "latency without a proof (s)", -1, 2, 0.5),
        Control("proof", "time of one proof (s)", 0, 5, 1200),
        Control("price", "price of one proof (USD)", -3, 3, 45),
    ),
    "calendar": (
        Control("month", "month of the appraisal", 0, 47, 17, log=False, named=True),
        Control("case", "evidence", 0, 10, 2, log=False, named=True),
    ),
}
TITLES = {
    "dispute": (
        "A real dispute, move by move",
        "Each move halves the doubt many times over; the contract judges the last step alone.",
    ),
    "stake": ("The ρ–stake map", "One answer, a broken TEE, no fishermen: where does honesty pay?"),
    "calendar": (
        "An evidence calendar",
        "The same bytes, appraised on the first of each month: what the verdict is, and what decides it.",
    ),
    "cost": (
        "Latency and cost, composed",
        "What a query takes in the mean, if proofs are awaited, and what it costs, by the items of figure F21.",
    ),
}


def figure_rows(figures: Path, name: str) -> list[dict[str, str]]:
    """The rows of a figure's CSV; the comment above its header is left out."""
    with (figures / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        next(file)
        return list(csv.DictReader(file))


def explorer_data(project: Project) -> dict[str, Any]:
    """What the script draws: the moves of the dispute, the mapped gains, the cost items of OTR, stated numbers."""
    moves, gains, items, spans = (figure_rows(project.figures, name) for name in SOURCES.values())
    months, calendar = calendar_data(spans)
    stated = load_published(project.data)
    names = ("left", "right", "units", "of", "gas", "gas_so_far", "bytes")
    return {
        "moves": [{**move, **{name: float(move[name]) for name in names}} for move in moves],
        "gains": sorted({float(row["gain_usd"]) for row in gains}),
        "price": PRICE_USD,
        "items": [
            {"item": row["item"], "usd": float(row["usd"]), "kind": row["kind"]}
            for row in items
            if row["system"] == "OTR" and row["item"] not in ("sampled proofs", "proof checks")
        ],
        "calendar": calendar,
        "names": {"calendar-month": months, "calendar-case": [one["case"] for one in calendar]},
        "stated": {
            "latency": stated.number("otr.latency_weighted", "s"),
            "cost": stated.number("otr.cost_query", "USD"),
            "rho": stated.number("otr.rho", "1"),
        },
    }


def calendar_data(spans: list[dict[str, str]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The months of the calendar, such as "2024-01", and for each case its verdicts in order.

    Args:
        spans: case, from and to (the first and the last appraisal with this verdict), verdict, claim, reason.

    Returns:
        Months; and per case its name and spans, ``first`` and ``last`` being numbers of months.
    """
    begin, end = min(span["from"] for span in spans)[:7], max(span["to"] for span in spans)[:7]
    year, month = map(int, begin.split("-"))
    months: list[str] = []
    while not months or months[-1] != end:
        months.append(f"{year:04d}-{month:02d}")
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    cases: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=lambda one: one["from"]):
        first, last = (months.index(span[key][:7]) for key in ("from", "to"))
        told = {key: span[key] for key in ("verdict", "claim", "reason")}
        cases.setdefault(span["case"], []).append({"first": first, "last": last, **told})
    order = dict.fromkeys(span["case"] for span in spans)
    return months, [{"case": case, "spans": cases[case]} for case in order]


def control_html(explorer: str, control: Control) -> str:
    """One labelled slider, with the place where its value is written."""
    name = f"{explorer}-{control.name}"
    high = control.high
    step = 1 if control.name == "move" or control.named else 0.05
    log = "true" if control.log else "false"
    return (
        f'<label for="{name}"><span>{html.escape(control.label)}</span>'
        f'<input type="range" id="{name}" min="{control.low:g}" max="{high:g}" step="{step}" '
        f'data-start="{control.start:g}" data-log="{log}"><output for="{name}" id="{name}-value"></output></label>'
    )


def explorers_page(project: Project) -> str:
    """The page, in Markdown with the explorers as HTML."""
    data = explorer_data(project)
    last = {"dispute-move": len(data["moves"])} | {name: len(words) - 1 for name, words in data["names"].items()}
    parts = [
        "# Explorers\n\nNo kernel and no network: the numbers are those of the figures' CSV files. "
        "The sliders work with the arrow keys.\n"
    ]
    for name, source in SOURCES.items():
        title, says = TITLES[name]
        parts.append(f"## {title}\n\n{says} Data: `figures/{source}.csv`.\n")
        controls = "\n".join(
            control_html(name, replace(control, high=last.get(f"{name}-{control.name}", control.high)))
            for control in CONTROLS[name]
        )
        steps = "".join(
            f'<button type="button" data-step="{step}">{label}</button>'
            for step, label in ((-1, "move before"), (1, "next move"))
        )
        parts.append(
            f'<div class="explorer" id="{name}" hidden>\n{controls}\n{steps if name == "dispute" else ""}'
            f'<button type="button" data-reset="{name}">back to the start</button>\n'
            f'<p class="reading" aria-live="polite"></p>\n<div class="picture"></div>\n</div>\n'
        )
        parts.append(f"![{title}: figure {source}, as the notebook draws it](figures/{source}.png)\n")
    document = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    parts.append(f'<script type="application/json" id="explorer-data">{document}</script>\n')
    parts.append('<script src="_static/explorers.js"></script>\n')
    return "\n".join(parts)
