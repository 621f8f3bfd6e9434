"""A network under attack, as notebooks take it: the stored run, or one made now."""

from __future__ import annotations

import json
from typing import Any

from otr_core.dispute.profile import FILE, DeploymentProfile, profile_numbers, read_profile
from otr_core.errors import OtrError
from otr_node.chain.anvil import find_anvil
from otr_node.project import Project
from otr_paper.devnet.attacks import FALSE_CHALLENGES, attack_named
from otr_paper.devnet.ground import ANVIL
from otr_paper.devnet.once import run_once
from otr_paper.store.results import check_made_with, read_result

NETWORK_RUN = "network_run"
"""Stored result: the events of one run of ``otr devnet``."""
ATTACK = "statesRoot: a wrong value of mlp.product"
"""How operator 2 cheats in the stored run: one value of one layer, which takes a descent to find."""


def network_run(project: Project, *, attack: str, seconds: float, profile: DeploymentProfile) -> dict[str, Any]:
    """Run a network now, every part a process: ``attack``, ``deployment`` (numbers of the profile),
    ``events`` (each with seconds ``s`` since the start, and ``chain_s`` of the chain's time since the
    court stood), ``end`` (``DevnetEnd``) and ``broken`` (what did not hold).

    Args:
        attack: ``attack_named``, or one of ``FALSE_CHALLENGES``; "none": nobody cheats.

    Raises:
        InputError: an unknown attack. OtrError: there is no anvil, or a part cannot be started.
    """
    own = "" if attack == "none" else attack
    if own not in FALSE_CHALLENGES:
        attack_named(own)  # before anything is started
    events = list[dict[str, Any]]()
    broken = run_once(project, attack=own, seconds=seconds, profile=profile, emit=events.append, node=ANVIL)
    end = {name: value for name, value in events.pop().items() if name not in ("s", "process", "event")}
    return {
        "attack": own,
        # A tiny model's trees have no levels for more: see ``break_ground``.
        "deployment": {name: each for name, each in profile_numbers(profile).items() if name != "court.arity_bits"},
        "events": json.loads(json.dumps(events)),
        "end": end,
        "broken": broken,
    }


def stored_network_run(project: Project) -> dict[str, Any]:
    """The stored run.

    Raises:
        DataError: absent, or made under another deployment than the profile's.
    """
    found, profile = read_result(project.results, NETWORK_RUN)[1], read_profile(project.data / FILE)
    check_made_with(NETWORK_RUN, found["deployment"], profile, "python -m otr_paper.producers.network")
    return found


def watched_network(project: Project, *, live: bool, attack: str, seconds: float) -> tuple[dict[str, Any], str]:
    """The stored run, or a live one; and a sentence that says which it is, and why.

    Raises:
        InputError: an unknown attack. OtrError: a part of a live run cannot be started.
    """
    if not live:
        return stored_network_run(project), "the stored run"
    if find_anvil(project.build / "node") is None:
        return stored_network_run(project), "the stored run: a live one needs anvil, and there is none here"
    found = network_run(project, attack=attack, seconds=seconds, profile=read_profile(project.data / FILE))
    if found["broken"]:
        raise OtrError(f"a live run did not end as promised: {'; '.join(found['broken'])}")
    return found, "a live run, made now"
