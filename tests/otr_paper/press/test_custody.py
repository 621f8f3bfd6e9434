"""Nothing a reader sees can be edited unnoticed: the tree is as it was recorded, and random edits of it
are not."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from otr_paper.press import custody, edits
from otr_paper.press.notebook import picture_html
from otr_paper.press.runner import shown_picture


@pytest.fixture(scope="module")
def copy(project, tmp_path_factory):
    return edits.copy_of_tree(project, tmp_path_factory.mktemp("tree"))


@pytest.fixture
def edited(copy):
    """Writes a file of the copy for one test."""
    kept = {}

    def write(name, change):
        path = copy.root / name
        kept.setdefault(path, path.read_bytes())
        path.write_text(change(path.read_text()))

    yield write
    for path, before in kept.items():
        path.write_bytes(before)


def test_every_file_is_as_recorded_and_every_link_holds(project):
    assert custody.check_custody(project) == []


def test_fifty_random_edits_are_each_noticed(project):
    tried = edits.try_edits(project, 50, 20251223)
    assert [(kind, file) for kind, file, noticed in tried if not noticed] == []
    assert {kind for kind, *_ in tried} == set(edits.EDITS)
    assert len({file for _, file, _ in tried}) > 25


@pytest.mark.parametrize("kind", edits.EDITS)
def test_an_edit_edits(copy, kind):
    pattern, edit = edits.EDITS[kind]
    path = sorted(copy.root.glob(pattern))[-1]
    before = path.read_bytes()
    edit(path, random.Random(3))
    after = path.read_bytes()
    path.write_bytes(before)
    assert after != before


def test_the_manifest_names_layer_and_file(copy, edited):
    edited("data/results/simulation.json", lambda text: text.replace('"machine": "', '"machine": "8 H100, ', 1))
    found = custody.check_custody(copy)
    assert "results: data/results/simulation.json differs" in found
    # every layer made from it is told too
    assert "pages: the digest of this layer, and of those before, differs" in found
    assert not any("digest" in one and one.startswith("inputs") for one in found)


def test_a_file_more_or_less_is_noticed(copy):
    path = copy.figures / "F99_new.csv"
    path.write_text("# note\na\n1\n")
    assert "figure data: figures/F99_new.csv is not in the manifest" in custody.check_custody(copy)
    path.unlink()
    lost = copy.root / "docs" / "limitations.md"
    before = lost.read_bytes()
    lost.unlink()
    found = custody.check_custody(copy)
    lost.write_bytes(before)
    assert "pages: docs/limitations.md is missing" in found


def test_without_a_manifest_nothing_is_as_recorded(copy, edited):
    edited("data/custody.json", lambda text: "{}")
    assert any("no readable manifest" in one for one in custody.check_custody(copy))


def forge(copy):
    """Whoever edits may also write the manifest again; the links stay."""
    before = custody.manifest_path(copy).read_bytes()
    assert custody.write_manifest(copy)
    found = custody.check_custody(copy)
    custody.manifest_path(copy).write_bytes(before)
    return found


def first_table(copy):
    return sorted(path.name for path in copy.figures.glob("T*.md"))[0]


def test_links_hold_against_a_manifest_written_again(copy, edited):
    table = first_table(copy)
    assert not custody.write_manifest(copy)  # nothing edited yet, nothing to write
    edited(f"figures/{table}", lambda text: text.replace("160", "159", 1))
    assert any("is not figures/" in one or "not those of its CSV" in one for one in forge(copy))


def test_a_picture_is_that_of_the_notebook_and_of_the_file(copy):
    one, other = sorted(copy.figures.glob("F*.png"))[:2]
    before = one.read_bytes()
    shutil.copyfile(other, one)
    found = forge(copy)
    one.write_bytes(before)
    assert any(f"the picture of {one.stem} is not figures/{one.name}" in line for line in found)


def test_every_picture_and_every_table_of_a_notebook_is_linked(copy):
    """Each exchanged inside its notebook for another, with the manifest written again."""
    linked = 0
    for path in sorted(copy.notebooks.glob("*.ipynb")):
        before = path.read_bytes()
        book = json.loads(before)
        shown = [out["data"] for cell in book["cells"] for out in cell.get("outputs", ()) if "data" in out]
        for data in shown:
            key = "text/html" if shown_picture({"data": data}) else "text/markdown"
            if key not in data or (key == "text/markdown" and "| --- |" not in "".join(data[key])):
                continue
            kept = data[key]
            data[key] = picture_html(b"another", "a picture") if key == "text/html" else ["| x |\n", *kept[1:]]
            path.write_text(json.dumps(book))
            assert custody.check_links(copy), path.name
            data[key] = kept
            linked += 1
        path.write_bytes(before)
    assert linked >= 60


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("README.md", " claims of the texts: ", " claims of the texts, all good: ", "README.md: block headlines"),
        ("docs/claims.md", "**contradicted**", "**reproduced**", "docs/claims.md: block claims"),
        ("figures/T08_claims.csv", "L01", "L00", "T08_claims.md: its cells"),
        ("figures/T08_claims.md", "The whole ledger.", "Half of it.", "T08_claims.md: its note"),
        ("notebooks/08_claims.ipynb", "** The whole ledger.", "** Half of it.", "the caption of T08_claims"),
        ("data/claims.yaml", "\n  verdict: contradicted", "\n  verdict: nonsense", "cannot be generated"),
    ],
)
def test_pages_and_tables_are_made_again_from_what_they_show(copy, edited, name, old, new, told):
    if old not in (copy.root / name).read_text():
        old = old.strip("*")
    edited(name, lambda text: text.replace(old, new, 1))
    assert any(told in one for one in forge(copy))


def test_the_command_says_what_is_wrong(capsys):
    assert custody.main([]) == 0
    assert "every link holds" in capsys.readouterr().out


#: What is committed there and is program, or the manifest itself.
NO_READING = {"docs/site/conf.py", "docs/site/static/explorers.js", "docs/site/static/site.css", "data/custody.json"}


def test_every_file_that_a_reader_sees_is_in_a_layer_and_can_be_edited(project):
    """Pages of the site, an example of an input, and how this is cited once stood in no layer."""
    names = {
        path.relative_to(project.root).as_posix()
        for layer in custody.LAYERS
        for path in custody.layer_files(project, layer)
    }
    folders = [project.root / name for name in ("docs", "figures", "notebooks", "data")]
    there = {path for folder in folders for path in folder.rglob("*") if path.is_file()} | set(
        project.root.glob("*.md")
    )
    seen = {path.relative_to(project.root).as_posix() for path in there}
    seen -= {name for name in seen if name.startswith("data/external/") or name.endswith((".svg", ".pdf"))}
    assert seen - names == {name for name in NO_READING if name in seen}
    drawn = {path for pattern, _ in edits.EDITS.values() for path in project.root.glob(pattern)}
    left = names - {path.relative_to(project.root).as_posix() for path in drawn}
    assert left == {"data/receipt_formats.csv", "data/published/README.md", "docs/guest-compose.yaml"}


def test_every_layer_has_files_and_no_file_is_in_two(project):
    files = [path for layer in custody.LAYERS for path in custody.layer_files(project, layer)]
    assert len(files) == len(set(files)) > 200
    assert all(custody.layer_files(project, layer) for layer in custody.LAYERS)
    assert custody.manifest_path(project) not in files
    assert Path("README.md") in {path.relative_to(project.root) for path in files}
