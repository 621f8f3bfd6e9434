"""What a run of the network on this machine begins with, and what it ends with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from eth_account import Account

from otr_core.dispute.profile import DeploymentProfile, own_profile
from otr_core.dispute.registry import Key
from otr_core.errors import InputError
from otr_node.chain.answers import OwnModel
from otr_node.chain.anvil import Anvil, EmbeddedNode, LocalNode, find_anvil, known_keys
from otr_node.chain.onchain import FIRST_COURT, ChainCourt
from otr_node.chain.rpc import RpcChain
from otr_node.commitment import commit_model
from otr_node.project import Project
from otr_paper.devnet.faults import PARTIES
from otr_paper.labs.disputes.parties import KEY_ID, KEYS
from otr_paper.labs.disputes.world import tiny_bench

ARITY_BITS = 2
PROMPT = "w3 w5 w7 w9"
"""What is ordered, in the words of the tiny model."""
ROLES = ("registrar", *PARTIES)
ANVIL, EMBEDDED = "anvil", "embedded"
NODES = ("", ANVIL, EMBEDDED)
"""Nodes that a run can have; "": anvil where it is installed, else the embedded chain."""


@dataclass(frozen=True)
class Ground:
    """A court that stands, on a chain that is kept in a file: what a run begins with.

    Attributes:
        folder: with key files, the deployment and the chain. program: anvil; None: the embedded chain
            behind its door. model: the model's folder.
            own: the model. names: roles by address.
    """

    folder: Path
    program: Path | None
    model: Path
    own: OwnModel
    names: dict[str, str]

    def node(self, state: Path, port: int | None = None) -> LocalNode:
        """A node on the chain in ``state``, which it has written when it ends."""
        if self.program is None:
            return EmbeddedNode(chain_id=FIRST_COURT.chain_id, state=state, port=port)
        return Anvil(self.program, chain_id=FIRST_COURT.chain_id, state=state, port=port)


def anvil_or_none(project: Project, node: str) -> Path | None:
    """The program of a node by its name, one of ``NODES``; None: the embedded chain.

    Raises:
        InputError: no such name, or anvil is asked for and is not here.
    """
    if node not in NODES:
        raise InputError(f"--node: found {node!r}, expected one of {', '.join(filter(None, NODES))}")
    program = None if node == EMBEDDED else find_anvil(project.build / "node")
    if node == ANVIL and program is None:
        raise InputError(
            "anvil: found none, expected it on the path, in OTR_ANVIL, or from: "
            "npm install --ignore-scripts --prefix build/node @foundry-rs/anvil@1.7.1"
        )
    return program


def break_ground(folder: Path, password: str, program: Path | None, profile: DeploymentProfile | None = None) -> Ground:
    """Deploy a court for the tiny model, with the terms of ``profile`` (None: the one that ships), but
    that a round goes down two levels: trees as small as this model's have no more. Nobody has a stake there yet.

    Args:
        program: ``anvil_or_none``.
    """
    keys, bench = known_keys(len(ROLES)), tiny_bench()
    for name, key in zip(ROLES, keys, strict=True):
        # These keys everybody knows, so their files may be quick to open.
        (folder / f"{name}.key").write_text(json.dumps(Account.encrypt(key.key, password, kdf="scrypt", iterations=2)))
    terms = replace((profile or own_profile()).court, arity_bits=ARITY_BITS)
    names = {key.address.lower(): name for name, key in zip(ROLES, keys, strict=True)}
    own = OwnModel(bench.portable, commit_model(bench.portable))
    ground = Ground(folder, program, bench.folder, own, names)
    with ground.node(folder / "chain.json") as node:
        court = ChainCourt(RpcChain(node.url, keys, poll_s=0.01), terms, keys[0].address)
        court.register_model(own.id, own.trees)
        court.register_key(KEY_ID, Key(keys[2].address.lower(), own.id, KEYS.address))
        (folder / "court.json").write_bytes(court.deployment.dump())
    return ground


@dataclass
class DevnetEnd:
    """How a run has ended.

    Attributes:
        seconds: from the start to its end. settled: whether all that had to come had come by then.
        slashed_s: to the conviction of the cheat; None: there was none. bound_s, taken_s: of the
            chain's time, from the cheat's batch (or its receipt, where that is withheld) to the
            latest conviction that the terms allow, and to the conviction. honest_slashed: whether an
            honest operator was convicted. lost_bonds: of honest fishermen. receipts, lost_receipts:
            that the client has accepted; of these, what is gone, or neither committed nor punished.
        paid: fishermen that were. finalised: whether every honest answer became final. restarts: of
            processes. slowest_restart_s: from the start of a new process to its first word. faults:
            that came. ended: processes that ended by themselves, with an error that they named.
            crashed: that did without. left: children that did not end.
    """

    seconds: float = 0.0
    settled: bool = False
    slashed_s: float | None = None
    bound_s: int | None = None
    taken_s: int | None = None
    honest_slashed: bool = False
    lost_bonds: int = 0
    receipts: int = 0
    lost_receipts: int = 0
    paid: list[str] = field(default_factory=list)
    finalised: bool = False
    restarts: int = 0
    slowest_restart_s: float = 0.0
    faults: int = 0
    ended: int = 0
    crashed: int = 0
    left: int = 0

    def broken(self, cheats: bool) -> list[str]:
        """What does not hold of what a network promises; nothing where all does."""
        late = cheats and (self.taken_s is None or self.bound_s is None or self.taken_s > self.bound_s)
        found = {
            "not settled": not self.settled,
            "an honest operator was slashed": self.honest_slashed,
            "an honest fisherman lost a bond": self.lost_bonds > 0,
            "an accepted receipt was lost": self.lost_receipts > 0 or not self.receipts,
            "a cheat was not slashed within the bound": late,
            "a process ended without saying why": self.crashed > 0,
            "processes were left": self.left > 0,
        }
        return [name for name, held in found.items() if held]
