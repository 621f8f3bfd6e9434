"""Spot checks on the default model: what is asked of it, and the beacon's recorded rounds."""

from __future__ import annotations

import tomllib
from typing import Any

from otr_core.spotcheck.selection import SHARES
from otr_node.project import Project
from otr_node.spotchecks import CheckedOperator
from otr_paper.benches.workbench import Workbench, derive

PROMPTS = (
    "Ada lives in Lisbon and works as a baker. Where does Ada live?",
    "Name three colours of the rainbow.",
    "What is the capital of Portugal?",
    "Write one sentence about rain.",
    "How many legs does a spider have?",
)


def load_beacon(project: Project) -> tuple[dict[str, Any], dict[int, bytes]]:
    """drand's quicknet chain information and the recorded rounds of data/beacon.toml."""
    document = tomllib.loads((project.data / "beacon.toml").read_text("utf-8"))
    return document["chain"], {entry["round"]: bytes.fromhex(entry["signature"]) for entry in document["rounds"]}


def checked(bench: Workbench, prompt: str, tokens: int = 12) -> CheckedOperator:
    """An operator who has answered a prompt. The trace's salts depend on the prompt alone, because
    they decide what a beacon round draws, and stored draws have to repeat."""
    return bench.serve(prompt, tokens, trace_secret=derive("spot-check-seed", prompt)).checked


__all__ = ["PROMPTS", "SHARES", "checked", "load_beacon"]
