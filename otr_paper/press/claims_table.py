"""The ledger as people and machines read it: terminal table, JSON, README table, one line a claim in a notebook."""

from __future__ import annotations

from typing import Any

from otr_core.errors import ClaimsError
from otr_core.files import write_text
from otr_node.project import Project
from otr_paper.claims import Evaluation, disputes, ledger, published, quality, receipts, trilemma
from otr_paper.claims.ledger import ClaimRow
from otr_paper.claims.verdict import VERDICTS
from otr_paper.store.results import read_result

HEAD = ["id", "claim", "stated", "computed here", "verdict"]


def read_ledger(project: Project) -> list[ClaimRow]:
    """All rows of data/claims.yaml.

    Raises:
        ClaimsError: absent or malformed.
    """
    path = project.data / "claims.yaml"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ClaimsError(f"{path}: cannot be read ({error.strerror}); restore it from git") from error
    return ledger.parse_ledger(text)


def evaluator(project: Project) -> ledger.Evaluate:
    """Judges a row from the published numbers and the stored results of this checkout."""
    return ledger.evaluator(published.load_published(project.data), _measured(project))


def _measured(project: Project) -> dict[str, Evaluation]:
    """The claims that hang on stored measurements rather than on published numbers."""
    from otr_core.poea import CHECKS
    from otr_paper.benches.comparison import read_inputs
    from otr_paper.poq import scores

    rows = read_result(project.results, "attacks")[1]["rows"]
    run = read_result(project.results, "native_run")[1]
    poq = scores.measured(scores.read_experiment(read_result(project.results, scores.RESULT)[1]))
    cited = published.load_published(project.data)
    checks = list(CHECKS)
    honest = (run["honest_count"], run["honest_rejected_count"])
    played, tolerance = (read_result(project.results, name)[1] for name in ("disputes", "tolerance"))
    found = (
        receipts.L23_downgrade_rejected(rows, checks, *honest),
        receipts.L24_poea_binds(rows, checks),
        receipts.L25_replay_rejected(rows, checks),
        disputes.L26_false_answer_slashed(played, tolerance),
        disputes.L28_only_diverging_opened(played),
        quality.L19_adversary_score(cited, poq),
        quality.L20_honest_score(cited, poq),
        quality.L21_judge_gap(cited, poq),
        quality.L22_human_drop(cited, poq),
        quality.L35_poq_latency(cited, poq),
        quality.L36_poq_judge(cited, poq),
        quality.L37_poq_pays_the_cheat(cited, poq),
        quality.L39_similarity_judge(cited, poq),
        trilemma.L42_trilemma(read_inputs(project)),
    )
    return {evaluation.claim: evaluation for evaluation in found}


def ledger_problems(project: Project) -> list[str]:
    """What no longer matches, one line each (see ``ledger.check``)."""
    return ledger.check(read_ledger(project), evaluator(project))


def refresh_ledger(project: Project) -> bool:
    """Write the verdicts and numbers the code computes into data/claims.yaml; returns whether anything changed."""
    path = project.data / "claims.yaml"
    text = ledger.refresh(read_ledger(project), evaluator(project))
    changed = text != path.read_text("utf-8")
    if changed:
        write_text(path, text)
    return changed


def stated_text(row: ClaimRow) -> str:
    """The stated number with its relation and unit; words as they are."""
    relation = {"=": "", "words": "", "range": "", "~": "about "}.get(row.relation, f"{row.relation} ")
    value = f"{row.stated:g}" if isinstance(row.stated, int | float) else row.stated
    unit = "" if row.unit in ("1", "words", "ratio") else f" {row.unit}"
    return f"{relation}{value}{unit}"


_UNITS = {"s": " s", "ms": " ms", "usd": " USD", "gas": " gas", "gb": " GB", "tok": " tokens", "gwei": " gwei",
          "score": "", "count": "", "ratio": " times", "pct": " %"}  # fmt: skip


def _named(name: str, value: float) -> str:
    """``answer_70b_s``, 2.44447 as ``answer 70b = 2.444 s``: names of computed numbers end in their unit."""
    words, _, last = name.rpartition("_")
    text = str(round(value)) if value == round(value) and abs(value) < 1e9 else f"{value:.4g}"
    if words and last in _UNITS:
        return f"{words.replace('_', ' ')} = {text}{_UNITS[last]}"
    return f"{name.replace('_', ' ')} = {text}"


def computed_text(row: ClaimRow, *, limit: int | None = None) -> str:
    """The computed numbers with their units, four significant digits; at most ``limit`` of them."""
    items = [_named(name, value) for name, value in row.computed.items()]
    hidden = len(items) - limit if limit and len(items) > limit else 0
    return "; ".join(items[:limit] + ([f"and {hidden} more"] if hidden else []))


def verdict_text(row: ClaimRow) -> str:
    """The verdict, with what it hangs on when conditional."""
    return f"{row.verdict} ({assumption_text(row)})" if row.assumption is not None else str(row.verdict)


def assumption_text(row: ClaimRow) -> str:
    """The assumption of a conditional row: its computed limit, then its words."""
    if row.assumption is None:
        return ""
    unit = "" if row.assumption["unit"] == "1" else f" {row.assumption['unit']}"
    name = str(row.assumption["name"]).removesuffix(f"_{row.assumption['unit']}").replace("_", " ")
    return f"{name} = {float(row.assumption['value']):.4g}{unit}: {row.assumption['text']}"


def claims_table(project: Project) -> list[list[str]]:
    """Rows of the terminal table, in the order of ``HEAD``."""
    return [
        [row.id, row.claim, stated_text(row), computed_text(row, limit=3), str(row.verdict)]
        for row in read_ledger(project)
    ]


def claims_json(project: Project) -> list[dict[str, Any]]:
    """Every row with the readings behind its verdict, recomputed now."""
    evaluate = evaluator(project)
    rows = []
    for row in read_ledger(project):
        found = evaluate(row)
        readings = [] if found is None else [vars(reading) for reading in found.readings]
        rows.append({**row.as_dict(), "readings": readings})
    return rows


def claims_markdown(project: Project) -> str:
    """The table of README.md."""
    from collections import Counter

    rows = read_ledger(project)
    counts = Counter(str(row.verdict) for row in rows)
    summary = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    lines = [
        f"{len(rows)} claims: {summary}.",
        "",
        "| | claim | stated | computed here | verdict |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.id, row.claim, stated_text(row), computed_text(row, limit=3), f"**{row.verdict}**"]
        if row.assumption is not None:
            cells[-1] += f", {assumption_text(row)}"
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


def claim_lines(project: Project, ids: list[str]) -> list[str]:
    """One line a claim for a notebook, after checking that the stored row is what the code computes now.

    Raises:
        ClaimsError: an unknown id, or a row that no longer matches.
    """
    rows = {row.id: row for row in read_ledger(project)}
    if unknown := [claim for claim in ids if claim not in rows]:
        raise ClaimsError(f"claims: found {', '.join(unknown)}, expected L01 to L42")
    evaluate = evaluator(project)
    problems = [line for line in ledger.check(rows.values(), evaluate) if line[:3] in ids]
    if problems:
        raise ClaimsError("; ".join(problems))
    return [
        f"{claim}  {rows[claim].verdict!s:18} stated {stated_text(rows[claim])} | {computed_text(rows[claim]) or '-'}"
        for claim in ids
    ]
