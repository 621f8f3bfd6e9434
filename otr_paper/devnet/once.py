"""One run of the network with nothing going wrong but what was asked for: what ``otr devnet`` shows, and
what notebook 09 draws."""

from __future__ import annotations

import math
import secrets
import tempfile
from dataclasses import asdict
from pathlib import Path

from otr_core.dispute.profile import DeploymentProfile
from otr_core.errors import ParameterError
from otr_node.project import Project
from otr_paper.devnet.attacks import FALSE_CHALLENGES, attack_named
from otr_paper.devnet.conductor import Devnet, Emit
from otr_paper.devnet.faults import Plan
from otr_paper.devnet.ground import anvil_or_none, break_ground
from otr_paper.devnet.processes import Fresh


def run_once(
    project: Project, *, attack: str, seconds: float, profile: DeploymentProfile, emit: Emit, node: str = ""
) -> list[str]:
    """Run a network to its end; the last event says how it has ended.

    Args:
        attack: of operator 2, or how fisherman 2 lies; "": nobody cheats. seconds: most that it may take.
        profile: of the deployment. emit: is given each event. node: one of ``NODES``.

    Returns:
        what does not hold of what a network promises.

    Raises:
        OtrError: a part cannot be started. InputError: an unknown attack, no time, or a node that is not here.
    """
    if not 0 < seconds < math.inf:
        raise ParameterError("--seconds", seconds, "a finite number above 0")
    if attack not in FALSE_CHALLENGES:
        attack_named(attack)
    program = anvil_or_none(project, node)
    with tempfile.TemporaryDirectory(prefix="otr-devnet-") as name:
        folder, password = Path(name), secrets.token_hex(16)
        ground = break_ground(folder, password, program, profile)
        (folder / "run").mkdir()
        plan = Plan(false_challenges=attack) if attack in FALSE_CHALLENGES else Plan(attack=attack)
        found = Devnet(ground, folder / "run", plan, seconds, emit, Fresh(folder / "run", password)).run()
    emit({"s": round(found.seconds, 1), "process": "conductor", "event": "ended", **asdict(found)})
    return found.broken(bool(plan.attack))
