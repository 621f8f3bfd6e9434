"""A Sphinx extension: pictures of notebooks get the text alternatives that the notebooks store, and docstrings are
shown as they stand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

TEXTS = "pictures.json"
"""Beside the pages that Sphinx reads: SHA-256 of a picture -> its text alternative."""


def name_pictures(app: Sphinx, document: nodes.document) -> None:
    """Give every picture without a text the one stored for its bytes."""
    texts: dict[str, str] = json.loads((Path(app.srcdir) / TEXTS).read_text("utf-8"))
    for picture in document.findall(nodes.image):
        path = Path(app.srcdir) / picture["uri"]
        if not path.is_file():
            path = Path(picture["uri"])
        if not picture.get("alt") and path.is_file():
            picture["alt"] = texts.get(hashlib.sha256(path.read_bytes()).hexdigest(), "")


def show_as_it_stands(_: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with tables drawn in it, no markup: each becomes a literal block."""
    if lines:
        lines[:] = ["::", "", *(f"   {line}" for line in lines), ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Entry point of an extension."""
    app.connect("doctree-read", name_pictures)
    app.connect("autodoc-process-docstring", show_as_it_stands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
