"""Solidity through Node's build of solc, where it is installed: the proof system writes its
verifier in Solidity."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from otr_core.errors import ChainError
from otr_node.chain.interface import Contract

SOLC = "0.8.20"
_SCRIPT = """
const solc = require("solc");
let input = "";
process.stdin.on("data", part => input += part).on("end", () => process.stdout.write(solc.compile(input)));
"""


def install_solc(folder: Path) -> Path:
    """Node modules with solc in ``folder``, installed from the npm registry at the first call.

    Raises:
        ChainError: no node or npm here, or the registry cannot be reached.
    """
    if not (folder / "node_modules" / "solc").is_dir():
        if not (shutil.which("npm") and shutil.which("node")):
            raise ChainError("solc", "no node or npm on this machine", "Node with npm, to install solc")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), f"solc@{SOLC}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ChainError("solc", f"npm status {done.returncode}", f"solc {SOLC} from the npm registry")
    return folder


def compile_solidity(source: str, name: str, folder: Path, *, runs: int = 1) -> Contract:
    """Compile the contract ``name`` of a source text.

    Args:
        folder: where ``install_solc`` put solc. runs: of the optimiser; 1 makes the smallest code.

    Raises:
        ChainError: it does not compile, or solc is absent.
    """
    settings = {
        "optimizer": {"enabled": True, "runs": runs},
        "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
    }
    request = {"language": "Solidity", "sources": {"a.sol": {"content": source}}, "settings": settings}
    command, said = ["node", "-e", _SCRIPT], json.dumps(request)
    try:
        done = subprocess.run(command, input=said, capture_output=True, text=True, cwd=folder)
    except OSError as error:
        raise ChainError("solc", error.strerror, "node and an installed solc") from error
    if done.returncode:
        raise ChainError("solc", done.stderr.strip().splitlines()[-1:] or "no output", "an installed solc")
    answer = json.loads(done.stdout)
    errors = [e["message"] for e in answer.get("errors", []) if e["severity"] == "error"]
    if errors:
        raise ChainError("compile", errors[0], "a contract that compiles")
    contract = answer["contracts"]["a.sol"][name]
    code = contract["evm"]["deployedBytecode"]["object"]
    return Contract(tuple(contract["abi"]), bytes.fromhex(contract["evm"]["bytecode"]["object"]), len(code) // 2)
