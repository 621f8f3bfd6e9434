"""README and the pages of docs tell the truth: generated blocks are current, examples run, links and commands exist."""

import doctest
import os
import re
import shlex
import subprocess

import pytest

from otr_core.errors import DataError
from otr_paper.claims.rows import read_ledger
from otr_paper.press import pages
from otr_paper.press.claims_table import HEADLINES
from otr_paper.series.guarantee import PAGE, breaking_page
from otr_paper.store.records import spelled

PAGES = ("README.md", "ARTIFACT.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/*.md")


@pytest.fixture(scope="module")
def texts(project):
    """Path of a page -> what stands in it."""
    return {path: path.read_text() for pattern in PAGES for path in sorted(project.root.glob(pattern))}


def test_generated_blocks_are_what_the_code_generates(project):
    found = 0
    for page, blocks in pages.generated(project).items():
        document = (project.root / page).read_text()
        for name, block in blocks.items():
            assert pages.replace_block(document, name, block, page) == document, f"{page}: {name} is of other data"
            found += 1
    assert found == 12


def test_shares_have_one_spelling(project, texts):
    """``1 %``: in what is written by hand, and in what the code generates today."""
    shown = {path.name: re.sub(r"<!-- begin:.*?<!-- end:", "", text, flags=re.DOTALL) for path, text in texts.items()}
    shown.pop("guarantee.md")  # generated as a whole
    shown |= {f"{page}: {name}": text for page, made in pages.generated(project).items() for name, text in made.items()}
    shown[PAGE] = breaking_page(project)
    assert {name: found for name, text in shown.items() if (found := re.findall(r"\S*\d%\S*", text))} == {}
    assert spelled("9% of 3.5%, %20 and 5 % at b%2F, 3%2F") == "9 % of 3.5 %, %20 and 5 % at b%2F, 3%2F"


def test_an_old_block_is_renewed_and_a_lost_marker_is_named():
    document = "x\n<!-- begin:claims (generated) -->\nold\n<!-- end:claims -->\ny\n"
    renewed = pages.replace_block(document, "claims", "new", "docs/claims.md")
    assert "\nnew\n" in renewed
    assert "old" not in renewed
    with pytest.raises(DataError, match=r"docs/claims\.md: found 0 blocks named claims"):
        pages.replace_block("no markers", "claims", "x", "docs/claims.md")


def test_readme_is_read_in_minutes_and_its_rows_are_rows_of_the_ledger(project):
    """At most 1,500 words, and ten rows of the ledger."""
    assert len((project.root / "README.md").read_text().split()) <= 1500
    assert len(HEADLINES) == 10
    assert set(HEADLINES) <= {row.id for row in read_ledger(project.data)}


def test_every_page_is_reached_from_readme(texts, project):
    named = set(re.findall(r"\]\(((?:docs|ARTIFACT)[^)#]*)\)", texts[project.root / "README.md"]))
    customary = {"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}  # who looks for them knows where
    for path in texts:
        name = path.relative_to(project.root).as_posix()
        assert name in customary or any(name == one or name.startswith(f"{one}/") for one in named), name


def test_links_lead_somewhere(texts):
    for path, text in texts.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_make_targets_exist(project, texts):
    targets = set(re.findall(r"^([a-z]+):", (project.root / "Makefile").read_text(), re.MULTILINE))
    for path, text in texts.items():
        assert set(re.findall(r"(?:`|^)make ([a-z]+)(?:`|$| +#)", text, re.MULTILINE)) <= targets, path.name


def test_python_examples_run(texts):
    # `...` stands for the hex digests of an error message
    options = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    ran = [doctest.testfile(str(path), module_relative=False, optionflags=options) for path in texts]
    assert sum(one.attempted for one in ran) >= 8
    assert sum(one.failed for one in ran) == 0


def squeezed(line):
    return " ".join(line.split())


def shown_commands(text):
    """Lines of `otr` in a page's blocks and in its inline code, as words; comments and what follows a pipe left out."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in lines:
        words = re.split(r"\s+(?:#|\||&&|>|;)|#", line)[0].replace("…", " ").split()
        if words and words[0] in ("otr", ".venv/bin/otr"):
            yield words[1:]


def test_commands_and_options_that_pages_show_exist(texts):
    """Of a command that is shown, the names of commands and options are true; values are the reader's."""
    import typer.main

    from otr_core import cli

    cli.add_commands()
    whole = typer.main.get_command(cli.app)
    seen, wrong = 0, []
    for page, text in texts.items():
        for words in shown_commands(text):
            command = whole
            while hasattr(command, "commands") and words and words[0] in command.commands:
                command, words = command.commands[words[0]], words[1:]
            known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            named = [word.split("=")[0].rstrip(",.)") for word in words if re.match(r"--[a-z]", word)]
            if hasattr(command, "commands") and words and re.fullmatch(r"[a-z-]+", words[0]):
                wrong.append(f"{page}: no command {words[0]!r}")
            wrong += [f"{page}: {name} of {command.name}" for name in named if name not in known | {"--help"}]
            seen += 1
    assert wrong == []
    assert seen > 60


def test_modules_that_pages_run_exist(project, texts):
    """`python -m otr_…` names a file that is there."""
    named = {name for text in texts.values() for name in re.findall(r"python -m (otr_[\w.]+)", text)}
    missing = [
        name for name in sorted(named) if not (project.root / f"{name.rstrip('.').replace('.', '/')}.py").is_file()
    ]
    assert missing == []
    assert len(named) > 10


@pytest.mark.slow
@pytest.mark.model
def test_console_examples_run_and_print_what_is_shown(project, texts, tmp_path):
    """Each `$` line is run; lines below it must appear in its output; `# exit status n` must be its
    status."""
    environment = {**os.environ, "PATH": f"{project.root / '.venv/bin'}:{os.environ['PATH']}", "COLUMNS": "200"}
    examples = [example for text in texts.values() for example in re.findall(r"```console\n(.*?)```", text, re.DOTALL)]
    ran = 0
    for number, example in enumerate(examples):
        folder = tmp_path / str(number)
        folder.mkdir()
        for step in re.split(r"^\$ ", example, flags=re.MULTILINE)[1:]:
            command, *expected = step.rstrip("\n").split("\n")
            if command.startswith("cd "):
                folder = project.root / shlex.split(command)[1]
                continue
            run = subprocess.run(
                command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            ran += 1
            status = [int(line.split()[-1]) for line in expected if line.startswith("# exit status")]
            assert run.returncode == (status[0] if status else 0), f"{command}: {run.stderr}"
            printed = squeezed(run.stdout + run.stderr)
            for line in expected:
                if not line.startswith("#"):
                    assert squeezed(line) in printed, f"{command}: {line!r} not in {run.stdout}"
    assert ran >= 6
