"""Random edits of what a reader sees, one at a time in a copy of the tree: the check of custody has to
notice each.

Twice: with the manifest as it was recorded, and with one that the editor wrote again. In the second
case only links and recomputation are left (``check_links``, and the ledger judged again), and the
report says which kinds of edit they do not see.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from otr_core.errors import OtrError
from otr_node.project import Project, find_project
from otr_paper.claims import ledger
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.rows import read_ledger
from otr_paper.press.custody import LAYERS, check_custody, check_links
from otr_paper.press.runner import shown_picture

Random = random.Random
Edit = Callable[[Path, Random], None]


def _other_digit(text: str, rng: Random) -> str:
    """``text`` with one digit, drawn with equal chance, made another; a letter where there is none."""
    places = [match.start() for match in re.finditer(r"\d", text)]
    if places:
        at = rng.choice(places)
        return text[:at] + rng.choice([digit for digit in "123456789" if digit != text[at]]) + text[at + 1 :]
    at = rng.choice([match.start() for match in re.finditer(r"[a-z]", text)])
    return text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :]


def _digit(path: Path, rng: Random) -> None:
    path.write_text(_other_digit(path.read_text("utf-8"), rng), "utf-8")


def _machine(path: Path, rng: Random) -> None:
    document = json.loads(path.read_text("utf-8"))
    document["card"]["machine"] = f"NVIDIA H100, {rng.randint(1, 8)} GPUs"
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")


def _payload(path: Path, rng: Random) -> None:
    head, mark, rest = path.read_text("utf-8").partition('"result":')
    path.write_text(head + mark + _other_digit(rest, rng), "utf-8")


def _data_row(path: Path, rng: Random) -> None:
    note, mark, rest = path.read_text("utf-8").partition("\n")
    path.write_text(note + mark + _other_digit(rest, rng), "utf-8")


def _first_line(path: Path, rng: Random) -> None:
    note, mark, rest = path.read_text("utf-8").partition("\n")
    path.write_text(_other_digit(note, rng) + mark + rest, "utf-8")


def _other_picture(path: Path, rng: Random) -> None:
    shutil.copyfile(rng.choice([one for one in sorted(path.parent.glob("*.png")) if one != path]), path)


def _ledger_words(path: Path, rng: Random) -> None:
    key = rng.choice(("rule", "made_in", "stated", "why", "claim", "verdict"))
    lines = path.read_text("utf-8").splitlines(keepends=True)
    at = rng.choice([number for number, line in enumerate(lines) if line.startswith(f"  {key}: ")])
    begin = lines[at].index(": ") + 2
    lines[at] = lines[at][:begin] + _other_digit(lines[at][begin:], rng)
    path.write_text("".join(lines), "utf-8")


def _in_notebook(where: str) -> Edit:
    def edit(path: Path, rng: Random) -> None:
        book = json.loads(path.read_text("utf-8"))
        outputs = [out for cell in book["cells"] for out in cell.get("outputs", ())]
        pictures = [out["data"] for out in outputs if shown_picture(out)]
        if where == "picture" and len(pictures) > 1:
            one, other = rng.sample(pictures, 2)
            one["text/html"], other["text/html"] = other["text/html"], one["text/html"]
        elif where == "output":
            texts = [(out, "text") for out in outputs if "text" in out]
            texts += [(out["data"], "text/markdown") for out in outputs if "text/markdown" in out.get("data", {})]
            holder, key = rng.choice(texts)
            holder[key] = _other_digit("".join(holder[key]), rng).splitlines(keepends=True)
        else:
            cell = rng.choice([cell for cell in book["cells"] if cell["cell_type"] == "markdown"])
            cell["source"] = _other_digit("".join(cell["source"]), rng).splitlines(keepends=True)
        path.write_text(json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")

    return edit


EDITS: dict[str, tuple[str, Edit]] = {
    "machine of a card": ("data/results/*.json", _machine),
    "number of a result": ("data/results/*.json", _payload),
    "point of a sweep": ("data/results/simulation_sweep.json", _payload),
    "number of a bench": ("data/results/*bench.json", _payload),
    "published number": ("data/published/*.csv", _data_row),
    "assumption of a use case": ("data/scenarios/*.toml", _digit),
    "word or number of the ledger": ("data/claims.yaml", _ledger_words),
    "figure's data": ("figures/F*.csv", _data_row),
    "figure's caption": ("figures/*.csv", _first_line),
    "table's data": ("figures/T*.csv", _data_row),
    "table as shown": ("figures/T*.md", _digit),
    "picture exchanged": ("figures/*.png", _other_picture),
    "pictures swapped in a notebook": ("notebooks/*.ipynb", _in_notebook("picture")),
    "output of a notebook": ("notebooks/*.ipynb", _in_notebook("output")),
    "prose of a notebook": ("notebooks/*.ipynb", _in_notebook("prose")),
    "README": ("README.md", _digit),
    "artifact's appendix": ("ARTIFACT.md", _digit),
    "page": ("docs/*.md", _digit),
    "page of the site": ("docs/site/*.md", _digit),
    "page that who looks for it knows": ("[CS]*.md", _digit),
    "how it is cited": ("[cC]*[fn]", _digit),
    "example of an input": ("docs/example_*", _digit),
    "policy or recipe": ("docs/[pr]*/*", _digit),
    "terms, models, drops and sources": ("data/*.toml", _digit),
}
"""Kind of edit -> the files it is made in, and how."""


def copy_of_tree(project: Project, folder: Path) -> Project:
    """A copy of all that the check reads."""
    for name in ("data", "figures", "notebooks", "docs"):
        shutil.copytree(project.root / name, folder / name, ignore=shutil.ignore_patterns("external", "*.svg", "*.pdf"))
    for pattern in LAYERS["pages"]:
        for path in project.root.glob(pattern) if "/" not in pattern else ():
            shutil.copyfile(path, folder / path.name)
    (folder / "otr_core").symlink_to(project.root / "otr_core")
    return Project(folder)


def try_edits(project: Project, count: int, seed: int, *, refreshed: bool = False) -> list[tuple[str, str, bool]]:
    """Make ``count`` edits in a copy, each undone before the next.

    Args:
        refreshed: the editor writes the manifest again: it is not looked at, the ledger is judged instead.

    Returns:
        Kind, file and whether it was noticed, one each. Every kind comes as often as any other, within
        one.
    """
    rng, found = random.Random(seed), []
    kinds = list(EDITS)
    with tempfile.TemporaryDirectory(prefix="otr-edits-") as folder:
        copy = copy_of_tree(project, Path(folder))
        for number in range(count):
            kind = kinds[number % len(kinds)]
            pattern, edit = EDITS[kind]
            path = rng.choice(sorted(copy.root.glob(pattern)))
            before = path.read_bytes()
            while path.read_bytes() == before:
                edit(path, rng)
            noticed = bool(_linked(copy) if refreshed else check_custody(copy))
            path.write_bytes(before)
            found.append((kind, path.relative_to(copy.root).as_posix(), noticed))
    return found


def _linked(project: Project) -> list[str]:
    """What links and recomputation alone notice."""
    try:
        return check_links(project) or ledger.check(read_ledger(project.data), Grounds(project.data))
    except (OtrError, ValueError, KeyError, ArithmeticError) as error:
        return [repr(error)]


def main(arguments: list[str] | None = None) -> int:
    """Edit a copy of this checkout at random and count what is noticed; returns the exit status."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--refreshed", action="store_true", help="as if the editor had written the manifest again")
    given = parser.parse_args(arguments)
    tried = try_edits(find_project(), given.count, given.seed, refreshed=given.refreshed)
    missed = Counter(kind for kind, _, noticed in tried if not noticed)
    print(f"seed {given.seed}: {sum(noticed for *_, noticed in tried)} of {len(tried)} edits noticed")
    for kind, number in missed.items():
        print(f"not noticed: {kind}, {number} times")
    return 1 if missed and not given.refreshed else 0


if __name__ == "__main__":
    sys.exit(main())
