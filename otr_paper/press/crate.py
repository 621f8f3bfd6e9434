"""What identifies the artifact and describes a run of it: the tree's SWHID, and an RO-Crate of the recorded run.

The SWHID of a directory is by definition the hash that git gives the tree of its files (SWHID specification 1.2,
section 5.3; ISO/IEC 18670). It is computed here from the files, so that an unpacked archive has it too.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import otr_core
from otr_core.errors import DataError
from otr_core.files import sha256_file
from otr_node.project import Project
from otr_paper.press.custody import LAYERS, layer_files
from otr_paper.store.results import read_result

_LEFT_OUT = frozenset({".git", ".venv", "build", "__pycache__"})
"""Folders of an unpacked archive that running it makes."""
_FORMATS: Mapping[str, str] = {
    ".csv": "text/csv",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/json",
    ".md": "text/markdown",
    ".png": "image/png",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
}
_TERMS = "https://w3id.org/ro/terms/workflow-run#"


def tree_files(root: Path) -> list[Path]:
    """The files of the artifact in ``root``: those that git tracks, or in an unpacked archive all that are there."""
    if (root / ".git").exists():
        listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=True)
        return [root / name for name in listed.stdout.decode().split("\0") if name and os.path.lexists(root / name)]
    return [path for path in root.rglob("*") if not path.is_dir() and not _LEFT_OUT & set(path.relative_to(root).parts)]


def directory_swhid(root: Path, files: Iterable[Path]) -> str:
    """SWHID of the directory ``root`` that holds ``files`` and nothing else: ``swh:1:dir:`` and 40 digits.

    Raises:
        DataError: a file is not below ``root``, or cannot be read.
    """
    tree: dict[bytes, Any] = {}
    for path in files:
        try:
            *folders, name = (os.fsencode(part) for part in path.relative_to(root).parts)
            entry = _file_entry(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: found no readable file below {root} ({error})") from error
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = entry
    return f"swh:1:dir:{_tree_hash(tree).hex()}"


def _file_entry(path: Path) -> tuple[bytes, bytes]:
    """Mode and hash of a file or link, as git stores them."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return b"120000", _git_hash(b"blob", os.fsencode(path.readlink()))
    mode = b"100755" if status.st_mode & stat.S_IXUSR else b"100644"
    return mode, _git_hash(b"blob", path.read_bytes())


def _tree_hash(tree: Mapping[bytes, Any]) -> bytes:
    """A folder sorts among its neighbours as if its name ended in a slash."""
    entries = []
    for name, inner in tree.items():
        if isinstance(inner, dict):
            entries.append((name + b"/", b"40000 " + name + b"\0" + _tree_hash(inner)))
        else:
            mode, digest = inner
            entries.append((name, mode + b" " + name + b"\0" + digest))
    return _git_hash(b"tree", b"".join(text for _, text in sorted(entries)))


def _git_hash(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(kind + b" %d\0" % len(content) + content, usedforsecurity=False).digest()


def run_crate(project: Project) -> dict[str, Any]:
    """RO-Crate 1.1 of the recorded run, after the profile *Process Run Crate*: what went in, what ran, what came out.

    Files are those of the chain of custody with their SHA-256; inputs and stored results went in, figures, tables,
    notebooks and pages came out.

    Raises:
        DataError: the run was never recorded.
    """
    card, _ = read_result(project.results, "reproduce_run")
    made = {layer: [_file_entity(project, path) for path in layer_files(project, layer)] for layer in LAYERS}
    parts = [entity for layer in made.values() for entity in layer]
    went_in = [entity for layer in ("inputs", "results") for entity in made[layer]]
    came_out = [entity for layer, entities in made.items() if layer not in ("inputs", "results") for entity in entities]
    software = {
        "@id": "#otr",
        "@type": "SoftwareApplication",
        "name": "otr",
        "softwareVersion": otr_core.__version__,
        "softwareRequirements": [f"{name} {version}" for name, version in card.versions.items()],
    }
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": card.command,
        "description": f"On {card.machine}.",
        "endTime": card.date,
        "instrument": _reference(software),
        "object": [_reference(entity) for entity in went_in],
        "result": [_reference(entity) for entity in came_out],
    }
    profile = {"@id": "https://w3id.org/ro/wfrun/process/0.5", "@type": "CreativeWork", "name": "Process Run Crate"}
    licence = {"@id": "https://spdx.org/licenses/Apache-2.0", "@type": "CreativeWork", "name": "Apache-2.0"}
    whole = {
        "@id": "./",
        "@type": "Dataset",
        "name": "The executable OTR paper",
        "description": "One run of the artifact: every figure, table and notebook, and what they were made from.",
        "datePublished": card.date,
        "identifier": directory_swhid(project.root, tree_files(project.root)),
        "license": _reference(licence),
        "conformsTo": _reference(profile),
        "mentions": _reference(action),
        "hasPart": [_reference(entity) for entity in parts],
    }
    about = {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    context = ["https://w3id.org/ro/crate/1.1/context", {"sha256": f"{_TERMS}sha256"}]
    return {"@context": context, "@graph": [about, whole, licence, profile, software, action, *parts]}


def crate_text(project: Project) -> str:
    """``run_crate`` as the text of ro-crate-metadata.json."""
    return json.dumps(run_crate(project), indent=1, ensure_ascii=False) + "\n"


def _reference(entity: Mapping[str, Any]) -> dict[str, Any]:
    return {"@id": entity["@id"]}


def _file_entity(project: Project, path: Path) -> dict[str, Any]:
    name = path.relative_to(project.root).as_posix()
    return {
        "@id": name,
        "@type": "File",
        "name": path.name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": _FORMATS.get(path.suffix, "text/plain"),
        "sha256": sha256_file(path),
    }
