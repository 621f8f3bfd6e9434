"""The page and the recipe for guests name what the code names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from otr_core.attestation.policy import BINDING_PROFILES, SHIPPED
from otr_core.cli import app as core
from otr_core.poea.attested import SINGLE, pack_evidence
from otr_core.poea.tee import BOUNDARY_EVENT, KEYS_EVENT, MODEL_EVENT, PINNED_REGISTERS, WORKLOAD_REGISTERS
from otr_node.commands import commands
from otr_node.evidence.command import evidence_commands
from otr_node.guest import AGENT_SOCKET, Collected
from otr_node.project import Project

OWN = (MODEL_EVENT, KEYS_EVENT, BOUNDARY_EVENT)


@pytest.fixture(scope="module")
def page(project: Project) -> str:
    return (project.root / "docs/guest.md").read_text()


@pytest.fixture(scope="module")
def recipe(project: Project) -> dict[str, Any]:
    return dict(yaml.safe_load((project.root / "docs/guest-compose.yaml").read_text()))


def options(name: str, app: typer.Typer) -> set[str]:
    group = typer.main.get_command(app)
    return {word for parameter in group.commands[name].params for word in parameter.opts}  # type: ignore[attr-defined]


def test_the_page_names_the_events_in_the_order_of_the_code(page: str) -> None:
    steps = re.findall(r"^\d\. \*\*Extend `([\w-]+)`\*\*", page, re.MULTILINE)
    assert tuple(steps) == OWN
    assert set(re.findall(r"`(otr-[a-z]+)`", page)) == set(OWN)


def test_the_page_names_what_the_policy_must_pin(page: str) -> None:
    for name in (*PINNED_REGISTERS, *WORKLOAD_REGISTERS):
        assert f"`{name}`" in page, name
    assert "`otr`" in page
    assert "otr" in BINDING_PROFILES
    assert 'binding = "otr"' in (SHIPPED / "strict.toml").read_text()
    assert "otr_core/attestation/policies/strict.toml" in page


def test_the_page_names_the_files_that_are_written(page: str, tmp_path: Path) -> None:
    parts = {"keys": b"{}", "quote": b"q", "event_log": b"[]", "gpu": [b"r"], "gpu_certs": [b"c"]}
    for path in Collected(parts, {}).write(tmp_path / "out"):
        assert f"`{path.name}`" in page, path.name
    assert json.loads((tmp_path / "out/evidence.json").read_bytes()) == pack_evidence(parts)
    assert set(parts) - set(SINGLE) == {"gpu", "gpu_certs"}


def test_the_page_uses_commands_and_options_that_are_there(page: str) -> None:
    places = {"verify": core, "appraise": evidence_commands, "collect": commands, "infer": commands}
    for name, app in places.items():
        used = {
            word for line in re.findall(rf"otr {name}((?:[^`]|\\\n)*)", page) for word in re.findall(r"--[a-z-]+", line)
        }
        assert used <= options(name, app), name
    assert {"--policy", "--nonce", "--evidence", "--order"} <= options("verify", core)


def test_the_page_names_the_agent(page: str, recipe: dict[str, Any]) -> None:
    assert str(AGENT_SOCKET) in page
    with_agent = [
        name for name, one in recipe["services"].items() if any(str(AGENT_SOCKET) in v for v in one["volumes"])
    ]
    assert with_agent == ["otr"], "whoever has the agent's socket can extend events"


def test_the_recipe_runs_a_command_that_is_there(recipe: dict[str, Any]) -> None:
    service = recipe["services"]["otr"]
    program, name, *words = service["command"]
    assert (program, name) == ("otr", "infer")
    said = dict(word.split("=", 1) for word in words)
    assert said.keys() <= options("infer", commands)
    assert said["--nonce"] == "${OTR_NONCE}"
    assert said["--agent"] == str(AGENT_SOCKET)
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    for option in ("--order", "--model", "--served", "--out"):
        assert any(said[option].startswith(f"{place}/") for place in mounted), option


def test_the_recipe_leaves_nothing_to_be_exchanged(recipe: dict[str, Any]) -> None:
    service = recipe["services"]["otr"]
    assert re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", service["image"])
    assert service["restart"] == "no"
    assert service["read_only"]
    text = json.dumps(recipe)
    assert re.findall(r"\$\{(\w+)", text) == ["OTR_NONCE"], "one value comes from outside, and the quote holds it"
