"""The recipes for containers name commands, options and files that are there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from otr_core.cli import app
from otr_node.commands import add
from otr_node.project import Project

COMMANDS = ("serve", "operate", "watch")


@pytest.fixture(scope="module")
def recipe(project: Project) -> dict[str, Any]:
    return dict(yaml.safe_load((project.root / "docs/recipes/network-compose.yaml").read_text()))


@pytest.fixture(scope="module")
def image(project: Project) -> str:
    return (project.root / "docs/recipes/Dockerfile").read_text()


@pytest.fixture(scope="module")
def group() -> Any:
    whole = typer.Typer()
    add(whole)
    assert app.registered_commands
    return typer.main.get_command(whole)


def plain(word: str) -> str:
    """A word of the recipe, with the variables' defaults."""
    return re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}", lambda found: found[1] or "1", word)


def test_each_service_runs_a_command_with_options_that_it_has(recipe, group):
    own = {name: each for name, each in recipe["services"].items() if each["image"] == "otr-node"}
    assert [each["command"][0] for each in own.values()] == list(COMMANDS)
    for service in own.values():
        name, *words = map(plain, service["command"])
        command = group.commands[name]
        with command.make_context(name, list(words)):
            pass  # an unknown option, a missing one, or a value of another kind is an error
        inside = {place.split(":")[1] for place in service["volumes"]} | set(service["tmpfs"])
        paths = {word.partition("=")[2] or word for word in words if "/" in word and "://" not in word}
        assert paths
        for path in paths:
            assert any(Path(path).is_relative_to(place) for place in inside), f"{name}: {path} is on no volume"


def test_what_containers_may_do_is_little(recipe):
    for name, service in recipe["services"].items():
        if service["image"] != "otr-node":
            assert re.fullmatch(r"[\w./-]+@sha256:[0-9a-f]{64}", service["image"]), "an image by its digest"
            continue
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"]
        assert service["restart"] == "unless-stopped"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        for place in service["volumes"]:
            source, _, rest = place.partition(":")
            assert source in recipe["volumes"] or rest.endswith(":ro") or source == "./orders", place


def test_server_and_operator_share_a_state_and_the_server_ends_in_time(recipe, group):
    served, operator = (recipe["services"][name] for name in ("server", "operator"))
    state = next(word.partition("=")[2] for word in served["command"] if word.startswith("--state="))
    assert operator["command"][1] == state
    assert {f"served:{state}"} <= set(served["volumes"]) & set(operator["volumes"])
    (stop,) = (each for each in group.commands["serve"].params if each.name == "stop_seconds")
    assert int(served["stop_grace_period"].removesuffix("s")) > stop.default


def test_the_image_has_what_the_commands_need(project, image):
    known = tomllib.loads((project.root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (extras,) = re.findall(r"\"\.\[([\w,]+)\]\"", image)
    assert set(extras.split(",")) == {"node", "chain", "serve"}
    assert set(extras.split(",")) <= known.keys()
    assert re.findall(r"torch==([\d.]+)", image) == re.findall(r"^torch==([\d.]+)", _lock(project), re.MULTILINE)
    assert "--constraint requirements.lock" in image
    assert shlex.split(image.splitlines()[-1].removeprefix("ENTRYPOINT "))[0] == "[otr]"


def _lock(project: Project) -> str:
    return (project.root / "requirements.lock").read_text()
