"""The ledger as users meet it: the shipped one is right, and each way of spoiling it is noticed."""

import json
import re

import pytest
import yaml
from typer.testing import CliRunner

from otr_core.errors import ClaimsError, InputError
from otr_node.project import Project
from otr_paper.claims import ledger
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import load_published
from otr_paper.claims.rows import read_ledger
from otr_paper.commands import commands as app
from otr_paper.press import claims_table


@pytest.fixture
def spoilt(project, tmp_path, monkeypatch):
    """A checkout whose ledger a test may edit; everything else is the real one."""

    def spoil(edit):
        (tmp_path / "data").mkdir()
        (tmp_path / "otr_core").symlink_to(project.root / "otr_core")
        for path in project.data.iterdir():
            if path.name != "claims.yaml":
                (tmp_path / "data" / path.name).symlink_to(path)
        rows = yaml.safe_load((project.data / "claims.yaml").read_text())
        edit({row["id"]: row for row in rows})
        (tmp_path / "data" / "claims.yaml").write_text(yaml.safe_dump(rows, sort_keys=False))
        monkeypatch.chdir(tmp_path)
        return Project(tmp_path)

    return spoil


def problems(project):
    return ledger.check(read_ledger(project.data), Grounds(project.data))


def test_the_shipped_ledger_is_complete_and_matches_the_code(project):
    assert problems(project) == []
    rows = read_ledger(project.data)
    assert [row.id for row in rows] == [f"L{number:02d}" for number in range(1, 43)]
    assert all(row.why.strip() and row.made_in for row in rows)


def test_every_row_is_evaluated_and_names_a_notebook_that_exists(project):
    for row in read_ledger(project.data):
        assert row.verdict, row.id
        assert (project.notebooks / f"{row.notebook}.ipynb").is_file(), row.id


def test_the_command_prints_all_rows_and_succeeds():
    run = CliRunner().invoke(app, ["claims"])
    assert run.exit_code == 0
    assert all(f"L{number:02d}" in run.stdout for number in range(1, 43))


def test_json_is_one_document_with_readings():
    run = CliRunner().invoke(app, ["claims", "--json"])
    rows = json.loads(run.stdout)
    assert len(rows) == 42
    latency = next(row for row in rows if row["id"] == "L03")
    assert latency["stated"] == 0.8
    assert latency["computed"]["plain_mean_s"] == pytest.approx(12.495)
    assert {"name", "assumption", "value", "unit", "kind", "holds", "factor"} <= set(latency["readings"][0])
    assert latency["readings"][0]["holds"] is False


def test_one_claim_is_printed_with_its_code_and_its_readings():
    run = CliRunner().invoke(app, ["claims", "L18"])
    assert run.exit_code == 0
    assert "judged by otr_paper.claims.throughput.L18_throughput_vs_centralised" in run.stdout
    assert "15 % more time" in run.stdout
    assert "tuned engine" in run.stdout
    assert "L17" not in run.stdout
    (row,) = json.loads(CliRunner().invoke(app, ["claims", "L18", "--json"]).stdout)
    assert row["id"] == "L18"
    assert len(row["readings"]) == 8
    assert [one["met"] for one in row["conditions"]] == [True, False, False]
    assert CliRunner().invoke(app, ["claims", "L99"]).exit_code != 0


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda rows: rows["L03"]["computed"].update(plain_mean_s=0.8),
            "L03: plain_mean_s stored 0.8, computed 12.495",
        ),
        (lambda rows: rows["L18"].update(verdict="reproduced"), "L18: verdict stored 'reproduced'"),
        (lambda rows: rows["L26"].update(verdict=None), "L26: no verdict"),
        (lambda rows: rows["L20"].update(why=""), "L20: why: found nothing"),
        (lambda rows: rows["L20"].update(made_in="a better paper"), "L20: made_in stored"),
        (lambda rows: rows["L09"].update(stated=0.7), "L09: stated stored 0.7"),
        (lambda rows: rows["L09"].update(rule="any cost"), "L09: rule stored"),
        (lambda rows: rows["L01"]["conditions"][0].update(met=False), "L01: conditions stored"),
        (lambda rows: rows["L03"]["flips"]["above"].update(at=0.9), "L03: flips stored"),
        (lambda rows: rows["L16"].update(code="otr_paper.claims.cost.L16_nothing"), "L16: code path"),
    ],
)
def test_each_edit_fails_the_command_and_is_named(spoilt, edit, message):
    spoilt(edit)
    run = CliRunner().invoke(app, ["claims"])
    assert run.exit_code == 1
    assert message in run.stderr


def test_refresh_mends_what_an_edit_broke(spoilt):
    project = spoilt(lambda rows: rows["L03"]["computed"].update(plain_mean_s=0.8))
    assert CliRunner().invoke(app, ["claims", "--refresh"]).exit_code == 0
    assert problems(project) == []
    assert ledger.refresh(project.data) is False


def test_claim_lines_recompute_before_they_print(project, spoilt):
    (line,) = claims_table.claim_lines(project.data, ["L32"])
    assert line.startswith("L32  arithmetic")
    with pytest.raises(InputError, match="found L99"):
        claims_table.claim_lines(project.data, ["L99"])
    broken = spoilt(lambda rows: rows["L32"].update(verdict="contradicted"))
    with pytest.raises(ClaimsError, match="L32: verdict stored"):
        claims_table.claim_lines(broken.data, ["L32"])


def test_a_missing_ledger_says_how_to_get_it_back(tmp_path):
    with pytest.raises(ClaimsError, match="restore it from git"):
        read_ledger(Project(tmp_path).data)


def test_numbers_carry_their_unit(project):
    row = next(row for row in read_ledger(project.data) if row.id == "L03")
    assert "plain mean = 12.49 s" in claims_table.computed_text(
        row
    ) or "plain mean = 12.5 s" in claims_table.computed_text(row)
    assert claims_table.computed_text(row, limit=1).endswith("more")


@pytest.mark.parametrize(("asked", "verdict"), [("L09=0.7", "reproduced"), ("L09=0.07", "contradicted")])
def test_another_stated_number_is_judged_as_if_it_were_printed(asked, verdict):
    run = CliRunner().invoke(app, ["claims", "--stated", asked])
    assert run.exit_code == 0
    assert f"L09: contradicted as stated, {verdict} at this number" in run.stdout
    (row,) = json.loads(CliRunner().invoke(app, ["claims", "--stated", asked, "--json"]).stdout)
    assert (row["verdict"], row["verdict_as_stated"]) == (verdict, "contradicted")
    assert row["stated"] == float(asked.split("=")[1])


def test_words_are_restated_by_what_they_are_read_as():
    run = CliRunner().invoke(app, ["claims", "--stated", "L05=0.4", "--stated", "L42=2"])
    assert run.exit_code == 0
    assert "L05: conditional as stated, reproduced at this number" in run.stdout
    assert "L42: conditional as stated, contradicted at this number" in run.stdout


@pytest.mark.parametrize(
    "asked",
    ["L09", "L09=", "L09=cheap", "L09=nan", "L09=inf", "L09=-1", "L09=0", "L99=1", "=1", "", "L29=200", "L36=1.5"],
)
def test_a_number_that_cannot_be_stated_is_refused_in_one_line(asked):
    run = CliRunner().invoke(app, ["claims", "--stated", asked])
    assert isinstance(run.exception, InputError)
    assert "\n" not in str(run.exception)


def test_the_headline_counts_the_claims_of_the_texts_alone(project):
    rows = read_ledger(project.data)
    counted = claims_table.counts(rows)
    assert sum(counted.values()) == sum(row.origin == "texts" for row in rows) < len(rows)
    assert "arithmetic" not in counted
    assert "cited" not in counted
    text = claims_table.counts_text(rows)
    assert all(f"{number} {name}" in text for name, number in counted.items())
    assert claims_table.headlines_markdown(rows).startswith(text)
    for row in rows:
        assert row.made_in in claims_table.whose_text(row)


def test_the_page_writes_numbers_as_people_do_and_says_what_words_are_read_as(project):
    rows, cited = read_ledger(project.data), load_published(project.data)
    cells = {
        cells[0]: dict(zip(claims_table.LEDGER_HEAD, cells, strict=True))
        for cells in claims_table.ledger_rows(rows, cited)
    }
    for row in rows:
        shown = cells[row.id]
        numbers = " ".join(shown[name] for name in ("stated", "what would have to be true", "flips at"))
        assert not re.search(r"\de[+-]?\d|\d \(?(pct|tok|count)\b|\d\.\d*[1-9]\d{4}", numbers), numbers
        if row.relation == "words":
            assert shown["stated"].startswith(f"{row.stated}, read as "), shown["stated"]
    assert cells["L05"]["stated"] == "hours, read as 2 h"
    assert cells["L07"]["flips at"].startswith("under 604,800 s: ")
    assert "longest context: 131072" in cells["L16"]["what would have to be true"].replace(",", "")
    assert cells["L03"]["stands in"] == "whichever source is left out, the plain reading's own kept"
    assert "which gives up “ZKML takes over 20 min”" in cells["L03"]["what would have to be true"]


def test_a_row_that_stands_without_a_source_says_which_ones_were_kept(project):
    """``standing`` cannot leave out what the plain reading is made of, and several plain readings are made of
    published numbers: whoever reads "whichever source" has to be told."""
    grounds = Grounds(project.data)
    hangs = []
    for row in read_ledger(project.data):
        found = ledger.evaluate(row, grounds)
        plain = [source for source in found.readings[0].sources if grounds.published[source].level != "claim"]
        hangs += [row.id] if plain else []
        assert all(found.without(source) is None for source in plain)
        shown = claims_table.stands_text(row)
        assert ("source" in shown) == ("the plain reading's own kept" in shown) == (row.stands["sources"] is not None)
    assert len(hangs) > 5
