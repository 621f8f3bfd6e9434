"""The generated parts of the pages people read: the claims in short and whole, and what each notebook takes."""

from __future__ import annotations

import re

from otr_core.errors import DataError
from otr_core.files import write_text
from otr_core.spotcheck.proof.soundness import soundness_bits
from otr_node.project import Project
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.own_proofs import LONG, SHORT, own_proofs
from otr_paper.claims.published import llama_7b, llama_70b, load_published
from otr_paper.claims.rows import ClaimRow, read_ledger
from otr_paper.press.claims_table import claims_markdown, headlines_markdown
from otr_paper.press.production_rules import COUNTS, lessons_markdown
from otr_paper.series.network import chaos_exceptions, chaos_lines
from otr_paper.store.records import spelled
from otr_paper.store.results import read_result
from otr_paper.studies.proving import answer_sizes, committed_cells, multiplied_weights


def generated(project: Project) -> dict[str, dict[str, str]]:
    """Page (path from the root) -> name of a generated block in it -> the block's text as of today's data."""
    rows = read_ledger(project.data)
    blocks = {
        "README.md": {"headlines": headlines_markdown(rows)},
        "ARTIFACT.md": {"commands": commands_markdown(project, rows)},
        "docs/claims.md": {"claims": claims_markdown(rows, load_published(project.data))},
        "docs/network.md": {"costs": costs_markdown(project), "chaos": chaos_markdown(project)},
        "docs/proof.md": {
            "measured": proofs_markdown(project),
            "growth": growth_markdown(project),
            "pledges": pledges_markdown(project),
        },
        "docs/production_rules.md": {f"{kind}s": lessons_markdown(project.data, kind) for kind in COUNTS},
        "docs/running.md": {"resources": resources_markdown(project)},
        "docs/serving.md": {"overhead": overhead_markdown(project)},
    }
    return {page: {name: spelled(text) for name, text in named.items()} for page, named in blocks.items()}


def refresh_pages(project: Project) -> bool:
    """Write the generated blocks of README.md and of the pages in ``docs`` again; returns whether anything changed.

    Raises:
        DataError: a block's markers are missing.
    """
    changed = False
    for page, blocks in generated(project).items():
        path = project.root / page
        before = after = path.read_text("utf-8")
        for name, text in blocks.items():
            after = replace_block(after, name, text, page)
        if after != before:
            write_text(path, after)
            changed = True
    return changed


def replace_block(document: str, name: str, text: str, page: str) -> str:
    """``document`` with what stands between the markers ``begin:name`` and ``end:name`` replaced.

    Raises:
        DataError: there is not exactly one such block in ``page``.
    """
    pattern = re.compile(rf"(<!-- begin:{name} [^>]*-->\n).*?(<!-- end:{name} -->)", re.DOTALL)
    if len(pattern.findall(document)) != 1:
        raise DataError(f"{page}: found {len(pattern.findall(document))} blocks named {name}, expected 1")
    return pattern.sub(lambda match: match[1] + text.rstrip("\n") + "\n" + match[2], document)


def resources_markdown(project: Project) -> str:
    """Time and memory per notebook, from the stored measurement ``reproduce_run``."""
    card, result = read_result(project.results, "reproduce_run")
    lines = ["| step | CPU s | wall s | peak MB |", "|---|---|---|---|"]
    for row in result["steps"]:
        lines.append(f"| {row['step']} | {row['cpu_s']:.0f} | {row['wall_s']:.0f} | {row['peak_mb']:.0f} |")
    lines.append(f"\nMeasured with `{card.command}` on {card.date} ({card.machine}).")
    return "\n".join(lines)


def overhead_markdown(project: Project) -> str:
    """What trace, journal and receipts cost a server, from the stored measurement ``serving``, if it was made."""
    if not (project.results / "serving.json").exists():
        return "Not measured yet: `python -m otr_paper.producers.serving` does, in some ten minutes."
    card, found = read_result(project.results, "serving")
    bare, receipts, batch = found["bare"], found["receipts"], found["batch"]
    shown = (
        (f"tokens a second, {batch} clients at once", "tokens_per_s", 1, 1),
        ("CPU of the server a token, ms", "cpu_s_per_token", 1000, 1),
        ("CPU of the process that hashes for it a token, ms", "hashing_s_per_token", 1000, 1),
        (f"first token of {batch} that come at once, ms", "first_s", 1000, 0),
        ("first token of one alone, ms", "first_alone_s", 1000, 0),
    )
    lines = ["| medians | without trace, journal and receipts | with them |", "|---|---|---|"]
    lines += [f"| {what} | {by * bare[name]:,.{n}f} | {by * receipts[name]:,.{n}f} |" for what, name, by, n in shown]
    late = f"{found['first_delay_ms']:+.0f} ms, {found['first_delay_alone_ms']:+.0f} ms alone"
    loss = f"Tokens a second: {-found['throughput_loss']:+.1%} (3 % less was to be the most)"
    lines.append(f"\n{loss}. First token: {late} (5 ms was to be the most). {found['rounds']} rounds.")
    load = f"load {found['load']['before']:.1f} before, {found['load']['after']:.1f} after"
    lines.append(f"\nMeasured with `{card.command}` on {card.date} ({card.machine}; {load}).")
    return "\n".join(lines)


def commands_markdown(project: Project, rows: list[ClaimRow]) -> str:
    """One command a claim, with the minutes its notebook took and the verdict to expect."""
    _, result = read_result(project.results, "reproduce_run")
    minutes = {row["step"]: row["wall_s"] / 60 for row in result["steps"]}
    lines = ["| claim | it says | minutes | figure | expected | command |", "|---|---|---|---|---|---|"]
    for row in rows:
        took = f"{minutes[row.notebook]:.1f}" if row.notebook in minutes else "not measured yet"
        command = f"`otr reproduce --claim {row.id}`"
        lines.append(f"| {row.id} | {row.claim} | {took} | {row.figure} | {row.verdict} | {command} |")
    return "\n".join(lines)


def costs_markdown(project: Project) -> str:
    """Gas of each transaction that a court is set up, served and disputed with, from the stored
    measurement ``dispute_gas``."""
    card, found = read_result(project.results, "dispute_gas")
    sizes = ("135m", "70b")
    once = [
        ("registry, court and table", "registrar, once", ("deploy registry", "deploy court", "deploy table")),
        ("judge of a model, registered", "registrar, once a model", ("deploy judge", "register_model")),
        ("key of a TEE", "registrar, once a key", ("register_key",)),
        ("stake", "operator, once", ("register",)),
        ("batch, whatever its size", "operator", ("commit_batch",)),
        ("payment", "client", ("escrow",)),
    ]
    rows = [
        (what, who, [sum(found["before"][size][call] for call in calls) for size in sizes]) for what, who, calls in once
    ]
    challenger = {"challenge", "open", "choose", "element", "choose_step", "pay_reward", "withdraw"}
    shares: dict[str, list[int]] = {"fisherman": [], "operator": []}
    for size in sizes:
        own = sum(gas for call, gas, _ in found["moves"][size] if call in challenger)
        shares["fisherman"].append(own)
        shares["operator"].append(found[f"gas_{size}"] - own)
    rows += [(f"a dispute with the leaves at hand: the {who}'s part", who, gas) for who, gas in shares.items()]
    rows += [("the whole of it, payout included", "both", [found[f"gas_{size}"] for size in sizes])]
    rows += [
        ("the same where the tree of states is walked down", "both", [found["walked"][size]["gas"] for size in sizes])
    ]
    lines = ["| what | who pays | gas, 135M model | gas, 70B model |", "|---|---|---|---|"]
    lines += [f"| {what} | {who} | {small:,} | {large:,} |" for what, who, (small, large) in rows]
    lines.append(f"\nMeasured with `{card.command}` on {card.date}, on the embedded chain; anvil uses the same.")
    return "\n".join(lines)


def pledges_markdown(project: Project) -> str:
    """Gas of each move of pledges, and of the large parts of a fraud proof, from the stored measurement
    ``pledge_gas``."""
    card, found = read_result(project.results, "pledge_gas")
    lines = ["| move | who pays | gas |", "|---|---|---|"]
    lines += [f"| {row['move']} | {row['who']} | {row['gas']:,} |" for row in found["moves"]]
    fraud = found["fraud"]
    lines += [
        f"| not a move: one column of a commitment, {fraud['rows']:,} numbers | | {fraud['column_gas']:,} |",
        f"| not a move: the {fraud['row_cells']:,} weights of one row, {fraud['row_bytes'] / 1e6:.1f} MB, hashed and "
        f"evaluated in {fraud['transactions'] - 1} transactions | | at most {fraud['row_gas']:,} |",
        f"\nMeasured with `{card.command}` on {card.date}, on the embedded chain.",
    ]
    return "\n".join(lines)


def chaos_markdown(project: Project) -> str:
    """What came of the runs under chaos, and each that did not end as promised, from the stored measurement
    ``chaos``."""
    card, found = read_result(project.results, "chaos")
    lines = [f"- {line}" for line in chaos_lines(found)]
    rows = chaos_exceptions(found)
    if rows:
        lines += ["", "| seed | attack | does not hold | run, s | convicted after, chain s | bound, chain s |"]
        lines += ["|---|---|---|---|---|---|"]
    for row in rows:
        clocks = (f"{row[name]:,.0f}" if row[name] is not None else "-" for name in ("seconds", "taken_s", "bound_s"))
        lines.append(f"| {row['seed']} | {row['attack']} | {row['broken']} | {' | '.join(clocks)} |")
    lines.append(f"\nMeasured with `{card.command}` on {card.date}, on a machine that others used.")
    return "\n".join(lines)


def proofs_markdown(project: Project) -> str:
    """What proving and checking whole answers costs, from the stored measurement ``answer_proofs``."""
    card, found = read_result(project.results, "answer_proofs")
    lines = [
        "| positions (chosen) | cells, million | prove, CPU s | of inference | peak, GB | proof, MB | check, CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in found["runs"]:
        drawn = ", drawn" if run["temperature_milli"] else ""
        if run["commit_cpu_s"] is not None:
            drawn += ", zero knowledge" if run.get("hidden_answers") else ", weights committed to"
        numbers = [f"{run['cells'] / 1e6:.1f}", f"{run['prove_cpu_s']:.0f}", f"{run['prove_over_inference']:.0f} ×"]
        numbers += [f"{run['peak_mb'] / 1024:.1f}", f"{run['proof_bytes'] / 1e6:.1f}", f"{run['check_cpu_s']:.1f}"]
        lines.append(f"| {run['positions']} ({run['answer_tokens']}{drawn}) | {' | '.join(numbers)} |")
    for run in found["runs"]:
        if run["commit_cpu_s"] is not None:
            hidden = run.get("hidden_answers", 0)
            how = f"once for {hidden} proofs that hide it" if hidden else "once"
            lines.append(f"\nCommitting to the model, {how}: {run['commit_cpu_s']:.0f} CPU s.")
    loads = [run["load_before"] for run in found["runs"]]
    bits = [run["soundness_bits"] for run in found["runs"]]
    lines.append(
        f"\nSoundness: {min(bits):.1f} to {max(bits):.1f} bits. Measured with `{card.command}` on {card.date}, one "
        f"thread of a machine of two cores that others used at {_loads(loads)}, which "
        "makes CPU seconds more."
    )
    return "\n".join(lines)


def _loads(loads: list[float]) -> str:
    least, most = f"{min(loads):.0f}", f"{max(loads):.0f}"
    return f"a load of {least}" if least == most else f"a load of {least} to {most}"


def growth_markdown(project: Project) -> str:
    """Proofs of models of rising size, from the stored measurement ``proof_growth``, and what larger models would
    take."""
    (card, found), grounds = read_result(project.results, "proof_growth"), Grounds(project.data)
    proofs = own_proofs(grounds)
    lines = [
        "| width | layers | positions | weights, million | cells, million | prove, CPU s | law, CPU s | peak, GB |"
    ]
    lines += ["|---" * 8 + "|"]
    for row in found["rows"]:
        law = proofs.fit.cost(row["cells"], row["weights"]).seconds
        sizes = [f"{row[name]:,}" for name in ("hidden", "layers", "positions")]
        sizes += [f"{row[name] / 1e6:.1f}" for name in ("weights", "cells")]
        lines.append(f"| {' | '.join(sizes)} | {row['prove_cpu_s']:.1f} | {law:.1f} | {row['peak_mb'] / 1024:.1f} |")
    per_cell, per_weight = proofs.fit.coefficients[1:]
    cells, weights = proofs.fit.largest
    loads = [row["load_before"] for row in found["rows"]]
    lines += [
        f"\nMeasured with `{card.command}` on {card.date} at {_loads(loads)}; weights "
        f"are random. Law: {per_cell * 1e6:.2f} µs a cell and {per_weight * 1e9:.0f} ns a weight, fitted to these and "
        f"to SmolLM2's greedy proofs above; one left out is missed by at most {proofs.fit.worst_left_out:.0%}.",
        "",
        "| extrapolated to | positions | cells, of the largest measured | weights, of the largest measured "
        "| prove, CPU s | error of the law | memory beside the model, GB | soundness, bits |",
        "|---" * 8 + "|",
    ]
    per_cell_gb = proofs.short["peak_mb"] / 1024 / proofs.short["cells"]
    for name, d in (("7B", llama_7b()), ("70B", llama_70b(grounds.published))):
        for positions in (SHORT, LONG):
            given, chosen = proofs.tokens(positions)
            cost, more = proofs.cost(d, positions), committed_cells(d, given, chosen)
            times = f"{more / cells:,.0f} × | {multiplied_weights(d) / weights:,.0f} ×"
            bits = soundness_bits(answer_sizes(d, given, chosen))
            costs = f"{cost.seconds:,.0f} | {cost.error:.0%} | {per_cell_gb * more:,.0f}"
            lines.append(f"| {name} | {positions:,} | {times} | {costs} | {bits:.2f} |")
    return "\n".join(lines)
