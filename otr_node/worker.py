"""The child process in which ezkl runs: ``python -m otr_node.worker REQUEST RESULT``.

A process of its own, because the library may panic, run out of memory or hang at exit, and because its memory and time
can be bounded and measured that way. REQUEST holds {op, …} as JSON; RESULT receives {value, cpu_s, peak_mb}
or {error}. Nothing here touches the network.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _library() -> Any:
    """The proof library, loaded only after ``main`` has set the limits: its memory and its time count as well."""
    import ezkl

    return ezkl


def _arguments(options: dict[str, Any]) -> Any:
    ezkl = _library()
    arguments = ezkl.PyRunArgs()
    for name, value in options.items():
        setattr(arguments, name, tuple(value) if isinstance(value, list) else value)
    return arguments


def write_settings(onnx: str, settings: str, options: dict[str, Any]) -> Any:
    """Write the circuit's settings; returns the number of rows it uses."""
    ezkl = _library()
    ezkl.gen_settings(onnx, settings, _arguments(options))
    return json.loads(Path(settings).read_text())["num_rows"]


def draw_srs(path: str, k: int) -> None:
    """Draw a structured reference string for 2^k rows. Whoever runs this could forge: test only."""
    ezkl = _library()
    ezkl.gen_srs(path, k)


def make_keys(onnx: str, settings: str, compiled: str, vk: str, pk: str, srs: str) -> None:
    """Compile the circuit and write both keys."""
    ezkl = _library()
    ezkl.compile_circuit(onnx, compiled, settings)
    ezkl.setup(compiled, vk, pk, srs)


def run_circuit(data: str, compiled: str, vk: str, srs: str, witness: str) -> Any:
    """Run the circuit on the input file ``data``; returns its outputs (field elements, little-endian hex)."""
    ezkl = _library()
    ezkl.gen_witness(data, compiled, witness, vk, srs)
    return json.loads(Path(witness).read_text())["outputs"]


def make_proof(witness: str, compiled: str, pk: str, srs: str, proof: str) -> None:
    """Write a proof for the witness. Does not tell whether it verifies."""
    ezkl = _library()
    ezkl.prove(witness, compiled, pk, proof, srs)


def check_proof(proof: str, settings: str, vk: str, srs: str) -> bool:
    """Whether the proof holds; the library raises where it does not."""
    ezkl = _library()
    try:
        return bool(ezkl.verify(proof, settings, vk, srs))
    except RuntimeError:
        return False


def commit_points(vectors: list[list[str]], vk: str, settings: str, srs: str) -> Any:
    """KZG points of each vector: 64 bytes hex (big-endian x ‖ y) per column it fills."""
    ezkl = _library()

    def text(point: Any) -> str:
        return "".join(ezkl.felt_to_big_endian(value)[2:] for value in (point.x, point.y))

    return [[text(point) for point in ezkl.kzg_commit(vector, vk, settings, srs)] for vector in vectors]


def write_contract(vk: str, settings: str, srs: str, code: str, abi: str) -> Any:
    """The verifier contract as Solidity text. The library writes it, then looks for a compiler; its failure to find one
    does not matter here."""
    import asyncio
    import contextlib

    ezkl = _library()

    async def write() -> None:
        with contextlib.suppress(RuntimeError):
            await ezkl.create_evm_verifier(vk, settings, code, abi, srs)

    asyncio.run(write())
    return Path(code).read_text()


def write_calldata(proof: str, calldata: str) -> str:
    """Calldata of that contract for a proof file, hex."""
    ezkl = _library()
    ezkl.encode_evm_calldata(proof, calldata)
    return Path(calldata).read_bytes().hex()


OPERATIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        write_settings,
        draw_srs,
        make_keys,
        run_circuit,
        make_proof,
        check_proof,
        commit_points,
        write_contract,
        write_calldata,
    )
}


def _peak_kb() -> int:
    """Peak memory of this program, kB; the system's own counter would include the parent's at the time of the start."""
    status = Path("/proc/self/status")
    peaks = (
        [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if status.is_file()
        else []
    )
    return int(peaks[0]) if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(request: str, result: str) -> None:
    """Do one request and leave without the library's clean-up, which may hang."""
    document = json.loads(Path(request).read_text())
    if memory := document.pop("memory_mb", None):
        resource.setrlimit(resource.RLIMIT_AS, (memory * 2**20, memory * 2**20))
    operation = OPERATIONS[document.pop("op")]
    started = time.process_time()
    try:
        answer: dict[str, Any] = {"value": operation(**document)}
    except BaseException as error:  # a Rust panic is not an Exception
        answer = {"error": f"{type(error).__name__}: {error}"}
    answer["cpu_s"] = time.process_time() - started
    answer["peak_mb"] = _peak_kb() / 1024
    Path(result).write_text(json.dumps(answer))
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
