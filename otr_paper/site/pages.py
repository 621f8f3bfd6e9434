"""The pages of the site, gathered in one folder for Sphinx: README as the front page, docs, notebooks, and pages made
here from the code and the ledger."""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import shutil
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

from otr_core.files import write_text
from otr_node.project import Project
from otr_paper.claims.rows import ClaimRow, read_ledger
from otr_paper.press.claims_table import computed_text, stated_text, whose_text
from otr_paper.press.reproduce import notebook_names
from otr_paper.press.runner import notebook_text, read_notebook, shown_picture
from otr_paper.site.explorers import explorers_page
from otr_paper.site.extension import TEXTS

#: The front doors of the verifier's side, in the order of the tiers; what each offers stands in its docstrings.
FRONT_DOORS = (
    "otr_core.attestation",
    "otr_core.poea",
    "otr_core.dispute",
    "otr_core.spotcheck.verify",
    "otr_core.economics",
    "otr_core.lane.step",
    "otr_core.merkle",
    "otr_core.encoding",
    "otr_core.errors",
)
TOPICS = ("tutorials", "explorers", "glossary", "claims_code", "api")
#: Pages at the root of the checkout beside README.
KIT = ("ARTIFACT", "CONTRIBUTING", "SECURITY", "CHANGELOG")

"""A picture as a notebook stores it (``otr_paper.press.notebook.picture_html``)."""


def gather_pages(project: Project, target: Path) -> None:
    """Write everything that Sphinx reads into ``target``."""
    own = project.root / "docs" / "site"
    shutil.copytree(own, target)
    shutil.copytree(
        project.figures, target / "figures", ignore=shutil.ignore_patterns("*.svg", "*.pdf", "*.csv", "*.md")
    )
    pages = sorted((project.root / "docs").glob("*.md"))
    for page in pages:
        write_text(target / "docs" / page.name, page.read_text("utf-8"))
    write_text(target / "docs" / "policies.md", policies_page(project.root / "docs" / "policies"))
    texts: dict[str, str] = {}
    names = notebook_names(project)
    for name in names:
        book = bare_pictures(read_notebook(project.notebooks / f"{name}.ipynb"), texts)
        write_text(target / "notebooks" / f"{name}.ipynb", notebook_text(book))
    write_text(target / TEXTS, json.dumps(texts, ensure_ascii=False))
    write_text(target / "claims_code.md", claims_page(read_ledger(project.data)))
    write_text(target / "api.md", api_page())
    write_text(target / "explorers.md", explorers_page(project))
    for name in KIT:
        write_text(target / f"{name}.md", (project.root / f"{name}.md").read_text("utf-8"))
    docs = [f"docs/{page.stem}" for page in pages] + ["docs/policies"]
    write_text(target / "index.md", front_page((project.root / "README.md").read_text("utf-8"), names, docs))


def bare_pictures(book: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """The notebook with its pictures as outputs of type image/png, which Sphinx writes as files; changes
    ``book``.

    Args:
        texts: SHA-256 of each picture -> its text alternative; entries are added.
    """
    for cell in book["cells"]:
        for output in cell.get("outputs", ()):
            if found := shown_picture(output):
                texts[hashlib.sha256(found[1]).hexdigest()] = found[0]
                output["data"] = {"image/png": base64.b64encode(found[1]).decode()}
    return book


def front_page(readme: str, notebooks: list[str], docs: list[str]) -> str:
    """README, whose links lead to the same places here, and the tree of all pages."""
    text = readme.replace("](docs/policies)", "](docs/policies.md)")
    trees = [
        tree("Start", TOPICS),
        tree("Notebooks", [f"notebooks/{name}" for name in notebooks]),
        tree("Pages", docs),
        tree("The artifact", KIT),
    ]
    return "\n".join([text, *trees])


def tree(caption: str, pages: Any) -> str:
    """A group of pages in the bar at the left."""
    listed = "\n".join(pages)
    return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"


def policies_page(folder: Path) -> str:
    """The example policies, each as it stands."""
    parts = ["# Example policies\n\nFor `otr appraise --policy FILE`, and for the engines of Cedar and Rego.\n"]
    for path in sorted(folder.iterdir()):
        parts.append(f"## {path.name}\n\n````text\n{path.read_text('utf-8').rstrip()}\n````\n")
    return "\n".join(parts)


def claims_page(rows: list[ClaimRow]) -> str:
    """For each claim: what is stated, what was found, and the code that judges it, as it stands."""
    parts = [
        "# The code of each claim\n\nWhat the texts state, what comes out here, and the function that judges it.\n"
    ]
    for row in rows:
        parts.append(
            f"## {row.id}\n\n{row.claim}\n\n- stated: {stated_text(row)}\n"
            f"- computed here: {computed_text(row) or 'nothing'}"
        )
        parts.append(f"- claimed by: {whose_text(row)}\n- verdict: {row.verdict}: {row.why}")
        parts.append(f"- run: `otr reproduce --claim {row.id}`")
        if row.notebook:
            parts.append(f"- shown in [notebook {row.notebook}](notebooks/{row.notebook}.ipynb)")
        if row.code:
            module, _, function = row.code.rpartition(".")
            source = textwrap.dedent(inspect.getsource(getattr(import_module(module), function)))
            parts.append(f"\n`{module.replace('.', '/')}.py`:\n\n````python\n{source}````\n")
        parts.append("")
    return "\n".join(parts)


def api_page() -> str:
    """The verifier's front doors, from their docstrings."""
    parts = [
        "# API of the verifier\n\nWhat `otr_core` offers, room by room; each entry is the docstring in the code.\n"
    ]
    for name in FRONT_DOORS:
        # A package offers what it names in __all__; a module what it defines.
        offered = "\n   :imported-members:" if hasattr(import_module(name), "__all__") else ""
        parts.append(f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}{offered}\n```\n")
    return "\n".join(parts)
