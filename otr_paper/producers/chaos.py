"""A network under chaos: data/results/chaos.json. About six CPU seconds a run; what was run is kept in
build/chaos.jsonl, so that the command goes on where it was stopped.

Each run has a seed, from which follow who cheats, who lies, and what goes wrong when. Every run that
was begun is stored, the failed ones too.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from otr_core.errors import OtrError
from otr_node.project import Project
from otr_paper.devnet.conductor import Devnet
from otr_paper.devnet.faults import Plan, plan_of
from otr_paper.devnet.ground import ANVIL, DevnetEnd, Ground, anvil_or_none, break_ground
from otr_paper.devnet.processes import Stem
from otr_paper.producers import frame

RUNS, FIRST_SEED = 200, 1
SECONDS = 600.0
"""Most that one run may take."""
_IDLE_S = 0.3


def run_seed(ground: Ground, stem: Stem, folder: Path, plan: Plan) -> dict[str, Any]:
    """One run of a plan, and what came of it. A run that fails in itself is a row too."""
    events = list[dict[str, Any]]()
    folder.mkdir(parents=True)
    stem.folder = folder
    run = Devnet(ground, folder, plan, SECONDS, events.append, stem, idle_s=_IDLE_S)
    try:
        end = run.run()
        broken = end.broken(bool(plan.attack))
    except OtrError as error:
        end, broken = run.outcome, [f"the run failed: {error}"]
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in events))
    return _row(plan, end, broken, events)


def _row(plan: Plan, end: DevnetEnd, broken: list[str], events: list[dict[str, Any]]) -> dict[str, Any]:
    came = Counter(f"{each['kind']} {each['part']}".strip() for each in events if each["event"] == "fault")
    said = Counter(each["event"] for each in events)
    drawn = {"attack": plan.attack, "false_challenges": plan.false_challenges, "troubled": round(plan.troubled, 3)}
    drawn |= {"skews_s": {who: round(skew, 1) for who, skew in plan.skews_s}, "faults": dict(came)}
    ended = {name: value for name, value in asdict(end).items() if name not in ("paid", "faults")}
    ended = {name: round(value, 1) if isinstance(value, float) else value for name, value in ended.items()}
    counts = {name: said[name] for name in ("challenge", "demand", "move", "timeout", "lapse", "reward", "finalise")}
    return {"seed": plan.seed, **drawn, **ended, "events": len(events), "said": counts, "broken": broken}


def chaos_summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all runs."""
    kinds = Counter[str]()
    for row in rows:
        for fault, count in row["faults"].items():
            kinds[fault.partition(" ")[0]] += count
    kinds["clock"] = sum(len(row["skews_s"]) for row in rows)
    kinds["rpc"] = sum(row["troubled"] > 0 for row in rows)
    return {
        "runs": len(rows),
        "good": sum(not row["broken"] for row in rows),
        "cheats": sum(bool(row["attack"]) for row in rows),
        "cheats_slashed": sum(bool(row["attack"]) and row["taken_s"] is not None for row in rows),
        "false_challengers": sum(bool(row["false_challenges"]) for row in rows),
        "honest_slashed": sum(row["honest_slashed"] for row in rows),
        "receipts": sum(row["receipts"] for row in rows),
        "lost_receipts": sum(row["lost_receipts"] for row in rows),
        "lost_bonds": sum(row["lost_bonds"] for row in rows),
        "restarts": sum(row["restarts"] for row in rows),
        "faults": dict(sorted(kinds.items())),
    }


def _run_all(project: Project, seeds: list[int], keep: Path | None) -> Iterator[dict[str, Any]]:
    """The rows of some seeds, one after the other, on one court and one stem."""
    with tempfile.TemporaryDirectory(prefix="otr-devnet-") as name:
        folder, password = keep or Path(name), secrets.token_hex(16)
        (folder / "ground").mkdir(parents=True)
        ground = break_ground(folder / "ground", password, anvil_or_none(project, ANVIL))
        stem = Stem(folder, password)
        try:
            for seed in seeds:
                before, started = time.process_time() + stem.cpu_s, time.monotonic()
                row = run_seed(ground, stem, folder / str(seed), plan_of(seed))
                cpu = time.process_time() + stem.cpu_s - before
                took = f"{cpu:.1f} CPU s, {time.monotonic() - started:.1f} s"
                frame.progress(f"{seed}: {row['broken'] or 'good'}, {took}")
                yield row
        finally:
            stem.close()


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="from each first seed")
    parser.add_argument(
        "--first", type=int, nargs="+", default=[FIRST_SEED], help="first seeds, of which turns are taken"
    )
    parser.add_argument("--keep", type=Path, help="folder in which each run's files stay")
    parser.add_argument("--dry", action="store_true", help="run, and store nothing")
    given = parser.parse_args()
    project = frame.checkout()
    kept = project.build / "chaos.jsonl"
    kept.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() and not given.dry else []
    done = {row["seed"] for row in rows}
    wanted = dict.fromkeys(first + at for at in range(given.runs) for first in given.first)
    due = [seed for seed in wanted if seed not in done]
    for row in _run_all(project, due, given.keep) if due else ():
        rows.append(row)
        if not given.dry:
            with kept.open("a") as out:
                out.write(json.dumps(row) + "\n")
    rows.sort(key=lambda row: row["seed"])
    frame.progress(json.dumps(chaos_summary(rows)))
    if not given.dry:
        payload = {"summary": chaos_summary(rows), "runs": rows}
        about = f"--runs {given.runs} --first {' '.join(map(str, given.first))}"
        frame.store("chaos", payload, seed=given.first[0], packages=("web3", "vyper"), cores=2, given=about)


if __name__ == "__main__":
    main()
