"""Contracts without one of their checks, and a plugin of pytest that tries refused calls on them.

Without a check no call that went through goes otherwise, so that only refused calls can tell a mutant:
each call that the tests see refused is made again on the mutants, from the same state. A mutant is
killed if it does not give the same reason.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from otr_core.errors import ChainError
from otr_node.chain.evm import Chain, compile_source, compile_vyper
from otr_node.chain.interface import Contract

ANY = "any"
"""Reason of a check that is given its reason as an argument."""
SENTINEL = int.from_bytes(sha256(b"number of the mutant").digest(), "big")
"""Stands for the number of a mutant in the code of all mutants of a contract."""


@dataclass
class VyperMutant:
    """A contract without one check.

    Attributes:
        name: file of the contract. number: among its mutants, from 1. line: of the check. text: the
            check, or the part of it that is missing. reason: what it says.
        killed_by: the test that saw a call go otherwise.
    """

    name: str
    number: int
    line: int
    text: str
    reason: str
    killed_by: str = ""

    @property
    def place(self) -> str:
        """Names the mutant as long as its contract stays as it is."""
        return f"{self.name}:{self.number}"


def vyper_mutants(path: Path) -> tuple[str, list[VyperMutant]]:
    """All mutants of a contract in one source, which is compiled once: an immutable number, the last
    argument of the constructor, says which check is missing."""
    mutants: list[VyperMutant] = []
    lines = path.read_text("utf-8").replace("@pure", "@view").splitlines()

    def missing(text: str, reason: str, line: int) -> str:
        mutants.append(VyperMutant(path.name, len(mutants) + 1, line, text, reason))
        return f"MUTANT == {len(mutants)}"

    for at, line in enumerate(lines):
        found = re.match(r"(\s*)assert (.*?)(?:, (\"[^\"]*\"|\w+))?(?:\s+#.*)?$", line)
        if not found:
            continue
        indent, condition, said = found.groups()
        parts, rest = split_conjunction(condition), f", {said}" if said else ""
        reason = "reverted" if not said else said[1:-1] if said[0] == '"' else ANY
        whole = missing(condition, reason, at + 1)
        if len(parts) > 1:
            condition = " and ".join(f"({missing(part, reason, at + 1)} or {part})" for part in parts)
        lines[at] = f"{indent}assert {whole} or ({condition}){rest}"
    source = "\n".join(lines) + "\n"
    source = re.sub(r"(?m)^(@deploy)$", r"MUTANT: immutable(uint256)\n\n\1", source)
    return re.sub(
        r"(def __init__\(.*?),?\s*\):\n", r"\1, mutant: uint256):\n    MUTANT = mutant\n", source, flags=re.S
    ), mutants


def split_conjunction(condition: str) -> list[str]:
    """The parts of a conjunction, outermost only."""
    depth, start, parts = 0, 0, []
    for at, letter in enumerate(condition):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and condition.startswith(" and ", at):
            parts.append(condition[start:at])
            start = at + len(" and ")
    return [*parts, condition[start:]]


class Prober:
    """Makes each refused call again, on contracts that lack a check.

    A plugin of pytest that stands in for ``Chain.deploy`` and ``Chain.transact`` while the contract
    tests run.

    Args:
        folder: of the contracts. hopeless: (file, text of a check) of which it is known why nothing can
            tell its mutant.
    """

    def __init__(self, folder: Path, hopeless: Container[tuple[str, str]] = ()) -> None:
        self._hopeless = hopeless
        self.mutants: list[VyperMutant] = []
        self.waiting: dict[tuple[str, str], list[VyperMutant]] = defaultdict(list)
        self.refused, self.test = 0, ""
        self._all: dict[bytes, tuple[str, Contract]] = {}  # by the code of a contract: all its mutants
        self._deployed: WeakKeyDictionary[Chain, dict[str, tuple[str, bytes]]] = WeakKeyDictionary()
        self._deploy, self._transact, self._call = Chain.deploy, Chain.transact, Chain.call
        for path in sorted(folder.glob("*.vy")):
            source, mutants = vyper_mutants(path)
            if mutants:
                self.mutants += mutants
                self._all[compile_vyper(path).bytecode] = path.name, compile_source(source, str(path))
        for mutant in self.mutants:
            self.waiting[mutant.name, mutant.reason].append(mutant)

    @property
    def hopeful(self) -> int:
        """Mutants that still wait, but those of which it is known why nothing can tell them."""
        return sum(not each.killed_by and (each.name, each.text) not in self._hopeless for each in self.mutants)

    def killed_before(self, kept: dict[str, str]) -> None:
        """Take over by which test each mutant was killed in a run before, by its place."""
        for mutant in self.mutants:
            if mutant.place in kept:
                self._kill(mutant, kept[mutant.place])

    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Remembers which test runs."""
        file, _, rest = item.nodeid.partition("::")
        self.test = f"{Path(file).name}::{rest}"

    def install(self) -> None:
        """Stand in for the chain's calls."""
        prober = self

        def deploy(chain: Chain, contract: Contract, *args: Any, **more: Any) -> Any:
            name, others = prober._all.get(contract.bytecode, ("", contract))
            try:
                made, receipt = prober._deploy(chain, contract, *args, **more)
            except ChainError as error:
                for mutant in list(prober.waiting.get((name, error.check), ())):
                    prober._built(chain, mutant, others, error.check, args)
                raise
            if name:
                code = chain.runtime_of(others, *args, SENTINEL, address=made.address, sender=more.get("sender"))
                prober._deployed.setdefault(chain, {})[made.address] = name, code
            return made, receipt

        def transact(chain: Chain, contract: Contract, *args: Any, **more: Any) -> Any:
            return prober._watched(prober._transact, chain, contract, args, more)

        def call(chain: Chain, contract: Contract, *args: Any, **more: Any) -> Any:
            return prober._watched(prober._call, chain, contract, args, more)

        Chain.deploy, Chain.transact, Chain.call = deploy, transact, call  # type: ignore[method-assign, assignment]

    def _watched(self, send: Any, chain: Chain, contract: Contract, args: Any, more: Any) -> Any:
        try:
            return send(chain, contract, *args, **more)
        except ChainError as error:
            if error.check not in ("abi", "arguments"):
                self.refused += 1
                self._probe(chain, contract, error.check, args, more)
            raise

    def _probe(self, chain: Chain, contract: Contract, reason: str, args: Any, more: Any) -> None:
        """Try all waiting mutants that lack a check with this reason."""
        for address, (name, code) in self._deployed.get(chain, {}).items():
            for mutant in [*self.waiting[name, reason], *self.waiting[name, ANY]]:
                one = code.replace(SENTINEL.to_bytes(32, "big"), mutant.number.to_bytes(32, "big"))
                if chain.reason_with({address: one}, contract, *args, **more) != reason:
                    self._kill(mutant)

    def _built(self, chain: Chain, mutant: VyperMutant, others: Contract, reason: str, args: Any) -> None:
        """Whether a constructor that refuses does so without its check."""
        try:
            chain.runtime_of(others, *args, mutant.number, address=chain.accounts[0])
        except ChainError as error:
            if error.check == reason:
                return
        self._kill(mutant)

    def _kill(self, mutant: VyperMutant, test: str = "") -> None:
        mutant.killed_by = test or self.test
        self.waiting[mutant.name, mutant.reason].remove(mutant)
