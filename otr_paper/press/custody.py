"""One chain of custody: from a stored result with its card to the figure's data, its picture, the
notebook that shows it, and the pages people read.

Two things together notice an edit. **Links** are made again from what they join, whatever the
manifest says: the picture and the tables inside a notebook are the files in figures/, the caption a
notebook prints is the first line of the CSV, a table's CSV and Markdown say the same cells, and the
generated blocks of README and docs are what the code generates. **The manifest**, data/custody.json,
holds the hash of everything else, layer by layer, each layer's digest made over the one below. It is
the last thing that ``otr reproduce --force --record`` writes; whoever writes it otherwise (``python
-m otr_paper.press.custody --refresh``) leaves a change of that file in the diff.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from otr_core.errors import DataError, OtrError
from otr_core.files import sha256_file, write_text
from otr_node.project import Project, find_project
from otr_paper.press.pages import generated, replace_block
from otr_paper.press.runner import read_notebook, shown_picture

LAYERS: Mapping[str, tuple[str, ...]] = {
    "inputs": ("data/*.toml", "data/*.csv", "data/*.yaml", "data/published/*", "data/scenarios/*.toml"),
    "results": ("data/results/*.json",),
    "figure data": ("figures/*.csv",),
    "pictures and tables": ("figures/*.png", "figures/*.md"),
    "notebooks": ("notebooks/*.ipynb",),
    "pages": (
        *("*.md", "CITATION.cff", "codemeta.json"),
        *("docs/*.*", "docs/site/*.md", "docs/policies/*", "docs/recipes/*"),
    ),
}
"""Layer -> the files in it, each layer made from those before."""


def manifest_path(project: Project) -> Path:
    """Where the manifest stands."""
    return project.data / "custody.json"


def layer_files(project: Project, layer: str) -> list[Path]:
    """The files of a layer, in order of their paths."""
    return sorted(path for pattern in LAYERS[layer] for path in project.root.glob(pattern) if path.is_file())


def recorded_hashes(project: Project) -> dict[str, Any]:
    """Hashes of every file by layer, and of every layer with those before it."""
    layers, before = {}, ""
    for layer in LAYERS:
        files = {path.relative_to(project.root).as_posix(): sha256_file(path) for path in layer_files(project, layer)}
        before = hashlib.sha256(json.dumps([before, layer, files]).encode()).hexdigest()
        layers[layer] = {"files": files, "digest": before}
    return {"layers": layers}


def write_manifest(project: Project) -> bool:
    """Write the manifest as of the files now; returns whether it changed."""
    path = manifest_path(project)
    text = json.dumps(recorded_hashes(project), indent=1) + "\n"
    changed = not path.is_file() or path.read_text("utf-8") != text
    if changed:
        write_text(path, text)
    return changed


def check_custody(project: Project) -> list[str]:
    """What is broken in the chain, one line each; an empty list says that all is as it was recorded."""
    return [*_check_manifest(project), *check_links(project)]


def _check_manifest(project: Project) -> Iterator[str]:
    try:
        stored = json.loads(manifest_path(project).read_text("utf-8"))["layers"]
        named = {layer: dict(stored[layer]["files"]) for layer in LAYERS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"{manifest_path(project).name}: no readable manifest ({error!r}); restore it from git"
        return
    found = recorded_hashes(project)["layers"]
    for layer in LAYERS:
        before, now = named[layer], found[layer]["files"]
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                what = (
                    "is not in the manifest" if name not in before else "is missing" if name not in now else "differs"
                )
                yield f"{layer}: {name} {what}"
        if stored[layer].get("digest") != found[layer]["digest"]:
            yield f"{layer}: the digest of this layer, and of those before, differs"


# ---- links that hold whatever the manifest says


def check_links(project: Project) -> list[str]:
    """What is broken in the links between the layers, each made again from its two ends."""
    found: list[str] = []
    for path in layer_files(project, "notebooks"):
        found += _check_shown(project, path)
    for path in layer_files(project, "pictures and tables"):
        if path.suffix == ".md":
            found += _check_table(path)
    try:
        pages = generated(project)
    except (OtrError, ValueError, LookupError, TypeError) as error:
        return [*found, f"README and docs: cannot be generated from these files ({error})"]
    for page, blocks in pages.items():
        document = (project.root / page).read_text("utf-8")
        found += [f"{page}: block {name} is not what is generated" for name, text in blocks.items()
                  if not _stands(document, name, text, page)]  # fmt: skip
    return found


def _stands(document: str, name: str, text: str, page: str) -> bool:
    try:
        return replace_block(document, name, text, page) == document
    except DataError:
        return False


def _check_shown(project: Project, path: Path) -> Iterator[str]:
    """Whether each picture, table and caption in a notebook is that of the file it names."""
    picture: bytes | None = None
    for cell in read_notebook(path)["cells"]:
        for output in cell.get("outputs", ()):
            if shown := shown_picture(output):
                picture = shown[1]
            text = "".join(output.get("data", {}).get("text/markdown", ()))
            name = _named(text)
            if not name:
                continue
            note, kind = _note(project.figures / f"{name}.csv"), text.rpartition("*(")[2].rstrip(")*\n ")
            caption = text.rpartition(f"**{name}.** ")[2].rpartition(" *(")[0]
            if note != " ".join(f"[{kind}] {caption}".split()):
                yield f"{path.name}: the caption of {name} is not that of its CSV"
            if name[0] == "T":
                table = project.figures / f"{name}.md"
                above = text.rpartition(f"**{name}.** ")[0]
                if not table.is_file() or not table.read_text("utf-8").startswith(above):
                    yield f"{path.name}: {name} as shown is not figures/{name}.md"
            else:
                file = project.figures / f"{name}.png"
                if not file.is_file() or picture != file.read_bytes():
                    yield f"{path.name}: the picture of {name} is not figures/{name}.png"
                picture = None


def _named(text: str) -> str:
    """The figure or table whose caption ends an output: ``**T01.** …``; empty for none."""
    line = next((line for line in reversed(text.splitlines()) if line.startswith("**")), "")
    name = line[2:].partition(".** ")[0]
    return name if name[:1] in ("F", "T") and name[1:2].isdigit() and " " not in name else ""


def _note(path: Path) -> str:
    """The first line of a figure's CSV: kind and caption."""
    return path.read_text("utf-8").partition("\n")[0].removeprefix("# ") if path.is_file() else ""


def _check_table(path: Path) -> Iterator[str]:
    """Whether a table's Markdown and CSV say the same: note and cells. Numbers are compared as numbers."""
    text = path.with_suffix(".csv").read_text("utf-8") if path.with_suffix(".csv").is_file() else ""
    note, _, body = text.partition("\n")
    written = path.read_text("utf-8").rstrip("\n")
    lines = [line for line in written.splitlines() if line.startswith("| ")]
    if " ".join(written.rpartition("|\n")[2].split()) != note.removeprefix("# "):
        yield f"{path.name}: its note is not that of its CSV"
    rows = list(csv.reader(body.splitlines(keepends=True)))
    shown = [[one.strip().replace("\0", "|") for one in line.replace("\\|", "\0")[1:-1].split("|")] for line in lines]
    del shown[1:2]
    if len(rows) != len(shown) or not all(map(_same_cells, rows, shown)):
        yield f"{path.name}: its cells are not those of its CSV"


def _same_cells(row: list[str], shown: list[str]) -> bool:
    return len(row) == len(shown) and all(map(_same_cell, row, shown))


def _same_cell(one: str, other: str) -> bool:
    plain, beside = " ".join(one.split()), " ".join(other.split())
    if plain == beside or (plain == "" and beside in ("nan", "None")):
        return True
    try:
        return abs(float(plain) - float(beside)) <= 1e-9 * abs(float(beside))
    except ValueError:
        return False


def main(arguments: list[str] | None = None) -> int:
    """Check the chain of this checkout, or, with ``--refresh``, write its manifest; returns the exit status."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--refresh", action="store_true", help="write data/custody.json as of the files now")
    project = find_project()
    if parser.parse_args(arguments).refresh:
        print("data/custody.json: " + ("written again" if write_manifest(project) else "nothing to change"))
        return 0
    problems = check_custody(project)
    print("\n".join(problems) or "every file is as it was recorded, and every link holds")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
