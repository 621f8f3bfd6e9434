"""The published figures: they load, they agree with themselves, and a broken file is refused by
name."""

from __future__ import annotations

import math
import re
import shutil

import pytest

from otr_core.errors import DataError, MissingDataError
from otr_paper.claims import published
from otr_paper.claims.published import Row

HEADER = "id,subject,quantity,relation,value,low,high,unit,setting,date,source,level,note"
GOOD = "a,card,price,=,1.5,,,USD,,2026,somewhere,primary,"


@pytest.fixture(scope="module")
def figures(project):
    """The published numbers."""
    return published.load_published(project.root / "data")


def folder(tmp_path, *lines, header=HEADER):
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "x.csv").write_text("\n".join((header, *lines)) + "\n")
    return tmp_path


def test_all_rows_load_and_carry_a_source(figures):
    assert len(figures) > 300
    assert all(row.source and row.unit in published.UNITS for row in figures.values())


def test_no_row_names_a_place_on_a_machine(project):
    for path in sorted((project.root / "data" / "published").glob("*.csv")):
        text = path.read_text()
        assert not re.search(r"""(^|[\s",;])/[a-z]+/""", text), path.name


def test_printed_overheads_follow_from_the_printed_measurements(figures):
    checked = 0
    for row in figures.starting("cc"):
        on, off = row.extra.get("cc_on"), row.extra.get("cc_off")
        if row.unit != "pct" or not (on and off):
            continue
        on, off = float(on), float(off)
        rate = row.extra["metric"] in ("tps", "qps", "throughput")
        overhead = 100 * ((1 - on / off) if rate else (on / off - 1))
        # Sources round both the measurements and the overhead; first-token times have three digits
        # only.
        assert row.number("pct") == pytest.approx(overhead, abs=0.35), row.id
        checked += 1
    assert checked >= 24


def test_poq_table_times_follow_from_its_rates(figures):
    for size in ("small", "medium", "large"):
        rate = 1000 / figures.number(f"poq.judge_{size}_a100", "s")
        assert figures.number(f"poq.judge_{size}_rate", "pairs/s") == pytest.approx(rate, rel=0.02)


def test_units_convert(figures):
    assert figures.number("otr.provisional", "s") == 0.5
    assert figures.number("opml.window", "s") == 604_800
    assert figures.number("gas.base_floor", "ETH") == pytest.approx(5e-12)
    assert figures.bounds("otr.tee_overhead", "1") == pytest.approx((0.15, 0.20))
    assert figures.bounds("otr.rho", "1") == (0.01, 0.01)


def test_wrong_use_is_refused(figures):
    with pytest.raises(DataError, match=r"no\.such\.row"):
        figures["no.such.row"]
    with pytest.raises(DataError, match="unit 'd'"):
        figures.number("opml.window", "USD")
    with pytest.raises(DataError, match="furlong"):
        figures.number("opml.window", "furlong")
    with pytest.raises(DataError, match="bounds"):
        figures.number("otr.tee_overhead", "1")
    with pytest.raises(DataError, match="words"):
        figures.bounds("zkml.latency_70b", "h")


def test_what_is_no_price_may_lack_a_date(tmp_path):
    assert published.load_published(folder(tmp_path, GOOD.replace("USD", "gas").replace("2026", "")))["a"].date == ""


def test_a_good_file_loads(tmp_path):
    rows = published.load_published(folder(tmp_path, GOOD))
    assert rows.number("a", "USD") == 1.5
    assert "a" in rows
    assert "b" not in rows
    assert math.isnan(rows["a"].low)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (GOOD.replace("USD", "EUR"), "EUR"),
        (GOOD.replace("1.5", "dear"), "dear"),
        (GOOD.replace(",=,", ",about,"), "about"),
        (GOOD.replace("primary", "hearsay"), "hearsay"),
        (GOOD.replace("somewhere", ""), "source"),
        (GOOD.replace("2026", ""), "date found ''"),
        (GOOD.replace("2026", "2026-13"), "date found '2026-13'"),
        *((GOOD.replace("USD", unit).replace("2026", "lately"), "its price moves")
          for unit in ("USD/tok", "USD/Mtok", "USD/GPU-h", "wei", "gwei", "ETH")),
        (GOOD.replace("1.5", ""), "'='"),
        (GOOD.replace(",=,", ",range,"), "'range'"),
        (GOOD.replace("=,1.5,,", "range,,3,2"), "'range'"),
        (GOOD.replace(",=,", ",text,"), "'text'"),
        (GOOD + ",more", "cells"),
        ("a,b", "cells"),
        (GOOD + "\n" + GOOD, "twice"),
    ],
)  # fmt: skip
def test_a_broken_row_is_refused_by_name(tmp_path, line, names):
    with pytest.raises(DataError, match=names):
        published.load_published(folder(tmp_path, *line.split("\n")))


def test_a_missing_column_and_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="level"):
        published.load_published(folder(tmp_path, header=HEADER.replace(",level", "")))
    shutil.rmtree(tmp_path / "published")
    with pytest.raises(MissingDataError, match="published"):
        published.load_published(tmp_path)


def test_a_row_is_checked_when_built():
    with pytest.raises(DataError, match="subject"):
        Row("a", "", "q", "=", 1.0, math.nan, math.nan, "s", "", "", "somewhere", "primary", "")
