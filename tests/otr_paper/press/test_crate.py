"""The tree's identifier is git's own, and the crate of the recorded run names what is there."""

import hashlib
import json
import os
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from otr_core.errors import DataError
from otr_node.project import find_project
from otr_paper.commands import commands as app
from otr_paper.press.crate import crate_text, directory_swhid, run_crate, tree_files

PROJECT = find_project()


def git(folder, *words):
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.fixture
def small(tmp_path):
    """A repository with what makes trees differ: order beside a folder, a link, a program, an empty file, depth."""
    root = tmp_path / "small"
    (root / "a" / "b").mkdir(parents=True)
    for name, text in {"a.txt": "x", "a-b": "", "a/b/c": "deep", "a0": "y", "é ü": "name"}.items():
        (root / name).write_text(text)
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    os.symlink("a.txt", root / "link")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")
    return root


def test_it_is_the_hash_that_git_gives_the_tree(small):
    found = directory_swhid(small, tree_files(small))
    assert found == f"swh:1:dir:{git(small, 'rev-parse', 'HEAD^{tree}')}"


def test_an_unpacked_archive_has_the_same(small, tmp_path):
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    archive = subprocess.run(["git", "-C", str(small), "archive", "HEAD"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(unpacked)], input=archive, check=True)
    (unpacked / "build").mkdir()
    (unpacked / "build" / "made").write_text("by a run")
    assert directory_swhid(unpacked, tree_files(unpacked)) == directory_swhid(small, tree_files(small))


@pytest.mark.skipif(
    not (PROJECT.root / ".git").exists(), reason="no git repository: the tree's hash has no other source"
)
def test_of_this_tree_too(tmp_path):
    """The commit as git unpacks it: what the working copy has beside it does not count."""
    archive = subprocess.run(
        ["git", "-C", str(PROJECT.root), "archive", "HEAD"], capture_output=True, check=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=archive, check=True)
    assert (
        directory_swhid(tmp_path, tree_files(tmp_path)) == f"swh:1:dir:{git(PROJECT.root, 'rev-parse', 'HEAD^{tree}')}"
    )


@pytest.mark.parametrize("change", ["content", "name", "mode", "link", "gone"])
def test_any_change_of_the_tree_changes_it(small, change):
    before = directory_swhid(small, tree_files(small))
    if change == "content":
        (small / "a" / "b" / "c").write_text("Deep")
    elif change == "name":
        (small / "a0").rename(small / "a1")
        git(small, "add", "-A")
    elif change == "mode":
        (small / "run").chmod(0o644)
    elif change == "link":
        (small / "link").unlink()
        os.symlink("a-b", small / "link")
    else:
        (small / "a-b").unlink()
    assert directory_swhid(small, tree_files(small)) != before


def test_a_file_from_elsewhere_is_refused(small, tmp_path):
    with pytest.raises(DataError, match="no readable file below"):
        directory_swhid(small, [tmp_path / "small" / "gone"])
    with pytest.raises(DataError, match="no readable file below"):
        directory_swhid(small / "a", [small / "a0"])


def test_every_reference_of_the_crate_is_an_entity_and_every_file_is_as_it_says():
    crate = json.loads(crate_text(PROJECT))
    graph = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(graph) == len(crate["@graph"])
    outside = {"https://w3id.org/ro/crate/1.1"}
    assert references(crate["@graph"]) <= graph.keys() | outside
    files = [entity for entity in crate["@graph"] if entity["@type"] == "File"]
    assert {entity["@id"] for entity in files} == {one["@id"] for one in graph["./"]["hasPart"]}
    for entity in files:
        data = (PROJECT.root / entity["@id"]).read_bytes()
        assert (entity["contentSize"], entity["sha256"]) == (str(len(data)), hashlib.sha256(data).hexdigest())
    run = graph["#run"]
    assert {one["@id"] for one in run["object"]} | {one["@id"] for one in run["result"]} == {e["@id"] for e in files}
    assert "data/results/reproduce_run.json" in {one["@id"] for one in run["object"]}
    assert "notebooks/00_overview.ipynb" in {one["@id"] for one in run["result"]}


def references(value):
    """All ``@id`` that a crate's entities refer to."""
    found = set()
    for entity in value:
        for held in entity.values():
            for one in held if isinstance(held, list) else [held]:
                found |= {one["@id"]} if isinstance(one, dict) else set()
    return found


def test_a_run_that_was_not_recorded_has_no_crate(tmp_path):
    (tmp_path / "data" / "results").mkdir(parents=True)
    shutil.copy(PROJECT.root / "pyproject.toml", tmp_path)
    with pytest.raises(DataError):
        run_crate(type(PROJECT)(tmp_path))


def test_the_command_writes_it(tmp_path):
    out = tmp_path / "ro-crate-metadata.json"
    ran = CliRunner().invoke(app, ["crate", "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    crate = json.loads(out.read_text())
    whole = next(entity for entity in crate["@graph"] if entity["@id"] == "./")
    assert whole["identifier"].startswith("swh:1:dir:")
    assert whole["identifier"] in ran.output
