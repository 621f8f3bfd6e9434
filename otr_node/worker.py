"""The child process in which ezkl runs: ``python -m otr_node.worker REQUEST RESULT``.

A process of its own, because the library may panic, run out of memory or hang at exit, and because
its memory and time can be bounded and measured that way. REQUEST holds {op, …} as JSON; RESULT
receives {value, cpu_s, peak_mb} or {error}. Nothing here touches the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Steps:
    """What a request may ask for, by name.

    ``folder`` is everywhere that of a circuit: unit.onnx, settings.json, circuit.ezkl, vk.key,
    pk.key. ``srs`` is the file of its structured reference string.

    Attributes:
        ezkl: the proof library. scratch: a folder for files that only a step itself needs.
    """

    ezkl: Any
    scratch: Path

    def write_settings(self, folder: str, options: dict[str, Any]) -> Any:
        """Write the circuit's settings; returns the number of rows it uses."""
        arguments = self.ezkl.PyRunArgs()
        for name, value in options.items():
            setattr(arguments, name, tuple(value) if isinstance(value, list) else value)
        settings = f"{folder}/settings.json"
        self.ezkl.gen_settings(f"{folder}/unit.onnx", settings, arguments)
        return json.loads(Path(settings).read_text())["num_rows"]

    def draw_srs(self, path: str, k: int) -> None:
        """Draw a structured reference string for 2^k rows. Whoever runs this could forge: test
        only."""
        self.ezkl.gen_srs(path, k)

    def make_keys(self, folder: str, srs: str) -> None:
        """Compile the circuit and write both keys."""
        compiled = f"{folder}/circuit.ezkl"
        self.ezkl.compile_circuit(f"{folder}/unit.onnx", compiled, f"{folder}/settings.json")
        self.ezkl.setup(compiled, f"{folder}/vk.key", f"{folder}/pk.key", srs)

    def run_circuit(self, folder: str, srs: str, data: str, witness: str) -> Any:
        """Run the circuit on the input file ``data``; returns its outputs (field elements,
        little-endian hex)."""
        self.ezkl.gen_witness(data, f"{folder}/circuit.ezkl", witness, f"{folder}/vk.key", srs)
        return json.loads(Path(witness).read_text())["outputs"]

    def make_proof(self, folder: str, srs: str, witness: str) -> str:
        """The bytes of a proof for the witness, hex. Does not tell whether it verifies."""
        proof = self.scratch / "proof.json"
        self.ezkl.prove(witness, f"{folder}/circuit.ezkl", f"{folder}/pk.key", str(proof), srs)
        return bytes(json.loads(proof.read_text())["proof"]).hex()

    def check_proof(self, folder: str, srs: str, proof: str) -> bool:
        """Whether the proof (a document) holds; the library raises where it does not."""
        try:
            return bool(self.ezkl.verify(self._file(proof), f"{folder}/settings.json", f"{folder}/vk.key", srs))
        except RuntimeError:
            return False

    def commit_points(self, folder: str, srs: str, vectors: list[list[str]]) -> Any:
        """KZG points of each vector: 64 bytes hex (big-endian x ‖ y) per column it fills."""

        def text(point: Any) -> str:
            return "".join(self.ezkl.felt_to_big_endian(value)[2:] for value in (point.x, point.y))

        key, settings = f"{folder}/vk.key", f"{folder}/settings.json"
        return [[text(point) for point in self.ezkl.kzg_commit(vector, key, settings, srs)] for vector in vectors]

    def write_contract(self, folder: str, srs: str) -> str:
        """The verifier contract as Solidity text. The library writes it, then looks for a compiler;
        its failure to find one does not matter here."""
        code, abi = self.scratch / "contract.sol", self.scratch / "contract.abi"

        async def write() -> None:
            with contextlib.suppress(RuntimeError):
                key, settings = f"{folder}/vk.key", f"{folder}/settings.json"
                await self.ezkl.create_evm_verifier(key, settings, str(code), str(abi), srs)

        asyncio.run(write())
        return code.read_text()

    def write_calldata(self, proof: str) -> str:
        """Calldata of that contract for a proof (a document), hex."""
        calldata = self.scratch / "calldata"
        self.ezkl.encode_evm_calldata(self._file(proof), str(calldata))
        return calldata.read_bytes().hex()

    def _file(self, document: str) -> str:
        """A file that holds the document, as the library wants it."""
        path = self.scratch / "proof.json"
        path.write_text(document)
        return str(path)


def peak_kb() -> int:
    """Peak memory of this program, kB.

    Linux keeps it in /proc. ``getrusage``, used elsewhere, also counts what the parent held at the
    time of the start.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(request: str, result: str) -> None:
    """Do one request and leave without the library's clean-up, which may hang."""
    document = json.loads(Path(request).read_text())
    if memory := document.pop("memory_mb", None):
        resource.setrlimit(resource.RLIMIT_AS, (memory * 2**20, memory * 2**20))
    operation = document.pop("op")
    started = time.process_time()
    try:
        # after the limits are set and the clock runs: its memory and its time count as well
        import ezkl

        answer: dict[str, Any] = {"value": getattr(Steps(ezkl, Path(request).parent), operation)(**document)}
    except BaseException as error:  # a Rust panic is not an Exception
        answer = {"error": f"{type(error).__name__}: {error}"}
    answer["cpu_s"] = time.process_time() - started
    answer["peak_mb"] = peak_kb() / 1024
    Path(result).write_text(json.dumps(answer))
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
