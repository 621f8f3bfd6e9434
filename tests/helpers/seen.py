"""What must hold of a notebook as it is seen: compared with the files that the same run wrote."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from pathlib import Path
from typing import Any

from PIL import Image


def faults(seen: dict[str, Any], figures: Path, *, mathematics: int = 0) -> list[str]:
    """One line for each difference between what is seen and what the files in ``figures`` hold.

    Args:
        seen: what ``see.js`` found.
        mathematics: how many nodes of mathematics there have to be.
    """
    found = []
    if len(seen["mathematics"]) != mathematics:
        found.append(f"mathematics: found {seen['mathematics']}, expected {mathematics}")
    for table in seen["tables"]:
        found += table_faults(table, figures)
    for picture in seen["pictures"]:
        found += picture_faults(picture, figures)
    found += [f"cut off at the right: {one}" for one in seen["cut"]]
    found += [f"too faint: {one}" for one in seen["faint"]]
    return found


def table_faults(table: dict[str, Any], figures: Path) -> list[str]:
    """The table as seen against its CSV (rows, columns) and its Markdown (every word)."""
    name = table["name"]
    if not name or not (figures / f"{name}.csv").is_file():
        return [f"table without the name of a file below it: {table['head']}"]
    _, *data = (figures / f"{name}.csv").read_text().splitlines(keepends=True)
    head, *rows = list(csv.reader(data))
    found = []
    if (table["head"], len(table["rows"])) != (squeezed(head), len(rows)):
        found.append(f"{name}: found {len(table['rows'])} rows of {table['head']}, expected {len(rows)} of {head}")
    lines = [line for line in (figures / f"{name}.md").read_text().splitlines() if line.startswith("|")]
    stored = [squeezed(split_row(line)) for line in (lines[0], *lines[2:])]
    for number, (shown, meant) in enumerate(zip([table["head"], *table["rows"]], stored, strict=False)):
        if shown != meant:
            found.append(f"{name}, row {number}: found {shown}, expected {meant}")
    return found


def split_row(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", line.strip())[1:-1]
    return [cell.replace("\\|", "|") for cell in cells]


def squeezed(cells: list[str]) -> list[str]:
    """Words as a browser shows them: white space in one piece, code without its ticks."""
    return [" ".join(cell.replace("`", "").split()) for cell in cells]


def picture_faults(picture: dict[str, Any], figures: Path) -> list[str]:
    """The picture as seen against its file, its CSV and its caption."""
    name, alt, source = (picture[key] or "" for key in ("name", "alt", "source"))
    if not (figures / f"{name}.csv").is_file():
        return [f"picture without the name of a file below it: {alt[:60]!r}"]
    found = [] if alt.startswith(f"{name}: ") and len(alt) > len(name) + 10 else [f"{name}: its text is {alt[:60]!r}"]
    if not picture["width"]:
        found.append(f"{name}: not drawn")
    stored = (figures / f"{name}.png").read_bytes()
    png = base64.b64decode(source.partition(",")[2]) if source.startswith("data:") else stored
    if png != stored:
        found.append(f"{name}: the picture is not that of figures/{name}.png")
    about = getattr(Image.open(io.BytesIO(png)), "text", {})
    if about.get("name") != name:
        found.append(f"{name}: the picture says that it is {about.get('name')}")
    if about.get("csv") != hashlib.sha256((figures / f"{name}.csv").read_bytes()).hexdigest():
        found.append(f"{name}: drawn from other data than figures/{name}.csv")
    return found
