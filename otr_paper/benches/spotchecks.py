"""Spot checks on the default model: circuits and keys in the build folder, traces, verifier, attack lab."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr_core.encoding import tagged_hash
from otr_core.lane.sampling import Decoding
from otr_core.spotcheck import proofs
from otr_core.spotcheck.selection import SHARES
from otr_core.spotcheck.units import SMALL, Layout, Unit
from otr_core.spotcheck.verify import Verifier
from otr_node import prover
from otr_node.generate import generate
from otr_node.models import model_folder
from otr_node.portable import load_portable
from otr_node.project import Project
from otr_node.spotchecks import CheckedOperator, embedding, weights_of
from otr_paper.labs.spotchecks import Lab

if TYPE_CHECKING:
    from otr_node.portable import PortableModel

PROMPTS = (
    "Ada lives in Lisbon and works as a baker. Where does Ada live?",
    "Name three colours of the rainbow.",
    "What is the capital of Portugal?",
    "Write one sentence about rain.",
    "How many legs does a spider have?",
)
LENIENT = 2**22
"""Slack of the circuit that the attack lab's operator would like to be judged by: four units of the last bit."""


def key_store(project: Project) -> Path:
    """Where reference strings and keys are kept: generated, never committed, test only."""
    return project.build / "spotcheck"


def load_beacon(project: Project) -> tuple[dict[str, Any], dict[int, bytes]]:
    """drand's quicknet chain information and the recorded rounds of data/beacon.toml."""
    document = tomllib.loads((project.data / "beacon.toml").read_text("utf-8"))
    return document["chain"], {entry["round"]: bytes.fromhex(entry["signature"]) for entry in document["rounds"]}


def circuits_of(project: Project, layout: Layout) -> dict[str, prover.Circuit]:
    """One circuit per unit shape, by shape name; keys are made at the first call (seconds)."""
    shapes = {layout.shape(name).name: layout.shape(name) for name in layout.matrices}
    return {name: prover.make_circuit(shape, key_store(project)) for name, shape in shapes.items()}


@dataclass
class Bench:
    """The default model ready for spot checks.

    Attributes:
        circuits: by shape name. verifier: holds points computed from the model's own weights.
    """

    project: Project
    model: PortableModel
    layout: Layout
    circuits: Mapping[str, prover.Circuit]

    @classmethod
    def start(cls, project: Project, *, weights: int = SMALL) -> Bench:
        """Load the model into the portable lane and make the circuits."""
        model = load_portable(model_folder(project, report=lambda line: None))
        layout = Layout(model.architecture, weights)
        return cls(project, model, layout, circuits_of(project, layout))

    def registered(self, layer: int, operator: str, block: int) -> tuple[bytes, ...]:
        """The points of a weight block, from the weights that the model's identity commits to."""
        unit = Unit(0, layer, operator, block)
        vector = weights_of(self.layout, self.model, unit).flatten().tolist()
        return prover.commit_vectors(self.circuits[self.layout.shape(operator).name], [vector])[0][0]

    @property
    def verifier(self) -> Verifier:
        embed = partial(embedding, self.model)
        return Verifier(self.layout, self.circuits, self.registered, self.model.bounds.saturation, embed)

    def serve(self, prompt: str, *, tokens: int = 12, model: PortableModel | None = None) -> CheckedOperator:
        """An operator who has answered a prompt with a committed trace."""
        served = model or self.model
        seed = tagged_hash("spot-check-seed", prompt.encode())
        answer = generate(served, prompt, Decoding(tokens), trace_seed=seed)
        return CheckedOperator(served, answer, seed, self.layout, self.circuits)

    def cheaper(self, *, bits: int = 4, layer: int | None = None) -> PortableModel:
        """The model with its matrices (of one layer only) rounded to ``bits`` bits: what a cheating operator runs."""
        from otr_paper.labs.variants import requantised

        def alter(tensors: dict[str, Any]) -> dict[str, Any]:
            prefix = "" if layer is None else f"model.layers.{layer}."
            return tensors | requantised({n: v for n, v in tensors.items() if n.startswith(prefix)}, bits)

        return load_portable(model_folder(self.project, report=lambda line: None), alter=alter)

    def lab(self, honest: CheckedOperator, cheat: CheckedOperator, position: int, layer: int, randomness: bytes) -> Lab:
        """The attack lab at a place."""
        small, store = self.layout.shape("gate"), key_store(self.project)
        lenient = prover.make_circuit(proofs.Shape(small.rows, small.columns, LENIENT), store)
        private = prover.make_circuit(small, store, visibility="private")
        return Lab(honest, cheat, self.verifier, lenient, private, position, layer, randomness)


__all__ = ["PROMPTS", "SHARES", "Bench", "circuits_of", "key_store", "load_beacon"]
