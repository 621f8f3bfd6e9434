"""The site: built from what is stored, whole without a network and without JavaScript, its explorers at work."""

import re
import resource
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from otr_core.economics import min_rho, min_stake
from otr_core.economics.deterrence import deters
from otr_core.errors import NotebookError
from otr_node.project import find_project
from otr_paper.claims.latency import weighted_latency
from otr_paper.press.reproduce import notebook_names
from otr_paper.press.runner import read_notebook, shown_picture
from otr_paper.site import build, pages
from otr_paper.site.explorers import CONTROLS, PRICE_USD, SOURCES, calendar_data
from otr_paper.site.extension import TEXTS
from otr_paper.store.results import read_result
from tests.helpers.browser import HEIGHT, SEE, WIDTH, chromium

PROJECT = find_project()
NAMES = notebook_names(PROJECT)
#: Attributes by which opening a page loads something; ``a`` elements load nothing until they are followed.
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Ids, links, what opening the page loads, pictures with their texts, and the words of a page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.pictures, self.words = set(), [], [], [], []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.ids |= {named["id"]} if "id" in named else set()
        if tag == "a" and named.get("href"):
            self.links.append(named["href"])
        if named.get(LOADED.get(tag)):
            self.loads.append(named[LOADED[tag]])
        if tag == "img":
            self.pictures.append((named.get("src", ""), named.get("alt", "")))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built once into another folder than the checkout's; its seconds of CPU stand in ``cpu``."""
    out = tmp_path_factory.mktemp("built") / "site"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    build.build_site(PROJECT, out)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (out.parent / "cpu").write_text(str(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return out


@pytest.fixture(scope="module")
def read(site):
    """Path below the site -> the page."""
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


def test_it_takes_less_than_a_minute(site):
    assert float((site.parent / "cpu").read_text()) < 60


def test_every_page_is_there(read):
    wanted = {f"notebooks/{name}.html" for name in NAMES}
    wanted |= {f"docs/{path.stem}.html" for path in (PROJECT.root / "docs").glob("*.md")}
    wanted |= {f"{name}.html" for name in (*pages.TOPICS, *pages.KIT, "index")}
    assert wanted <= read.keys()


def test_every_internal_link_leads_somewhere(site, read):
    dead = []
    for name, page in read.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            found = target.resolve().relative_to(site.resolve()).as_posix() if target.exists() else None
            if found is None or (parts.fragment and found in read and unquote(parts.fragment) not in read[found].ids):
                dead.append(f"{name}: {link}")
    assert not dead
    assert sum(len(page.links) for page in read.values()) > 500


def test_opening_a_page_asks_no_network(site, read):
    assert not [(name, one) for name, page in read.items() for one in page.loads if re.match(r"(https?:)?//", one)]
    for path in [*site.rglob("*.css"), *site.rglob("*.js")]:
        text = path.read_text("utf-8", errors="replace")
        assert not re.search(r"""(@import|url\()\s*["']?(https?:)?//|fetch\(["']https?:|import\(["']https?:""", text), (
            path.name
        )


def test_each_picture_has_its_text_and_each_notebook_all_of_its_own(read):
    for name in NAMES:
        stored = [
            "".join(output["data"]["text/html"])
            for cell in read_notebook(PROJECT.notebooks / f"{name}.ipynb")["cells"]
            for output in cell.get("outputs", ())
            if shown_picture(output)
        ]
        texts = [alt for _, alt in read[f"notebooks/{name}.html"].pictures]
        assert len(texts) == len(stored), name
        assert all(re.match(r"F\d\d[a-z]?_\w+: .", text) for text in texts), name
    assert not [(name, src) for name, page in read.items() for src, alt in page.pictures if not alt]


def test_amounts_and_words_stand_in_the_page_itself(read):
    """What a reader without JavaScript sees: text, tables and pictures, and no mathematics made of dollar signs."""
    for name, page in read.items():
        text = " ".join(page.words)
        assert "\\(" not in text, name
        assert name in ("search.html", "genindex.html", "py-modindex.html") or len(text.split()) > 100, name
    assert "L18_throughput_vs_centralised" in " ".join(read["claims_code.html"].words)
    glossary = " ".join(read["glossary.html"].words)
    for term in (
        "Efficient Attribution",
        "σ_TEE",
        "MRENCLAVE",
        "Provisional finality",
        "Optimistic fallback",
        "Fishermen",
    ):
        assert term in glossary
    assert len([one for one in read["explorers.html"].pictures if "figures" in one[0] or "_images" in one[0]]) == len(
        SOURCES
    )


def test_what_the_glossary_names_in_the_code_is_there():
    text = (PROJECT.root / "docs/site/glossary.md").read_text()
    named = re.findall(r"`(otr_\w+(?:/\w+)*(?:\.py)?)`", text)
    assert len(named) >= 6
    assert all((PROJECT.root / path).exists() for path in named)


def test_a_warning_is_an_error_and_leaves_no_site(tmp_path, monkeypatch):
    def gather_a_dead_link(project, target):
        shutil.copytree(project.root / "docs/site", target, ignore=shutil.ignore_patterns("*.md"))
        (target / TEXTS).write_text("{}")
        (target / "index.md").write_text("# Site\n\n[nowhere](nowhere.md)\n")

    monkeypatch.setattr(build, "gather_pages", gather_a_dead_link)
    with pytest.raises(NotebookError, match=r"nowhere\.md"):
        build.build_site(PROJECT, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_pictures_become_files_with_their_texts():
    texts = {}
    book = read_notebook(PROJECT.notebooks / "00_overview.ipynb")
    pages.bare_pictures(book, texts)
    kinds = [kind for cell in book["cells"] for output in cell.get("outputs", ()) for kind in output.get("data", ())]
    assert kinds.count("image/png") == len(texts) == 2
    assert all(text.startswith("F") for text in texts.values())


@pytest.fixture(scope="module")
def page(site):
    """A browser's page that reads files and refuses everything else."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        yield page


def test_the_pages_are_seen_whole_in_light_and_dark(site, page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name in ("index", "glossary", "explorers", "claims_code", *(f"notebooks/{name}" for name in NAMES)):
            page.goto((site / f"{name}.html").as_uri())
            seen = page.evaluate(SEE, "article")
            assert seen["mathematics"] == [], name
            assert seen["cut"] == [], name
            assert seen["faint"] == [], name
            assert all(picture["width"] and picture["alt"] for picture in seen["pictures"]), name
    assert asked
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]


def state_of(page, name):
    return page.inner_html(f"#{name} .picture"), page.inner_text(f"#{name} .reading")


def test_every_control_moves_its_picture_by_the_keyboard_and_goes_back(site, page):
    page.goto((site / "explorers.html").as_uri())
    for name, controls in CONTROLS.items():
        start = state_of(page, name)
        for control in controls:
            page.focus(f"#{name}-{control.name}")
            page.keyboard.press("ArrowRight" if control.start < control.high or control.log else "ArrowLeft")
            picture, reading = state_of(page, name)
            assert picture != start[0], control
            assert reading != start[1], control
            page.focus(f"#{name} [data-reset]")
            page.keyboard.press("Enter")
            assert state_of(page, name) == start, control


def test_the_dispute_is_replayed_to_the_slash(site, page):
    page.goto((site / "explorers.html").as_uri())
    rows = (PROJECT.figures / f"{SOURCES['dispute']}.csv").read_text().splitlines()[2:]
    for number, row in enumerate(rows, 1):
        by, move, level = row.split(",")[1:4]
        reading = page.inner_text("#dispute .reading")
        assert reading.startswith(f"Move {number} of {len(rows)}, {by}: {move.replace('_', ' ')}.")
        assert level in reading
        page.click("#dispute [data-step='1']")
    assert "slashed" in page.inner_text("#dispute .reading")


def value_of(page, name):
    """The value of a slider, as the page shows it: four digits."""
    return float(page.inner_text(f"#{name}-value").replace(",", ""))


def test_the_explorers_compute_what_the_code_computes(site, page):
    page.goto((site / "explorers.html").as_uri())
    for presses in range(6):
        percent, *others = (value_of(page, f"stake-{control.name}") for control in CONTROLS["stake"])
        rho, (stake, gain, slashed, returned) = percent / 100, others
        terms = {"gain_usd": gain, "price_usd": PRICE_USD, "slash_fraction": slashed, "dispute_cost_usd": 0.0}
        terms |= {"reward_share": returned, "d": 1.0, "phi": 0.0, "w": 0.0}
        honest = deters(detection=rho, threshold=min_rho(**terms, stake_usd=stake))
        reading = page.inner_text("#stake .reading")
        assert reading.startswith("Honesty pays" if honest else "Cheating pays")
        said = float(re.search(r"a stake above ([\d,.e+-]+) USD", reading)[1].replace(",", ""))
        assert said == pytest.approx(min_stake(**terms, rho=rho), rel=0.006)
        page.focus("#stake-stake" if presses % 2 else "#stake-rho")
        for _ in range(17):
            page.keyboard.press("ArrowRight")
    for _ in range(3):
        percent, base, proof, _price = (value_of(page, f"cost-{control.name}") for control in CONTROLS["cost"])
        said = float(re.search(r"Mean latency ([\d,.]+) s", page.inner_text("#cost .reading"))[1].replace(",", ""))
        assert said == pytest.approx(weighted_latency(base, proof, percent / 100), rel=0.006)
        page.focus("#cost-proof")
        page.keyboard.press("ArrowRight")


def test_the_calendar_says_what_the_stored_appraisals_say(site, page):
    """Month by month along each piece of evidence: the verdict, and the claim and reason that decide it."""
    stored = read_result(PROJECT.results, "attestation_cases")[1]["calendar"]
    page.goto((site / "explorers.html").as_uri())
    cases = list(dict.fromkeys(row["case"] for row in stored))
    seen = 0
    for case in (cases[2], cases[5]):
        page.evaluate(MOVE, ["calendar-case", cases.index(case)])
        for month in range(0, 48, 3):
            page.evaluate(MOVE, ["calendar-month", month])
            day = page.inner_text("#calendar-month-value")
            assert page.inner_text("#calendar-case-value") == case
            found = [row for row in stored if row["case"] == case and row["from"][:7] <= day <= row["to"][:7]]
            assert len(found) == 1, (case, day)
            reading = page.inner_text("#calendar .reading")
            assert reading.startswith(f"{case}, appraised on the first of {day}: {found[0]['verdict']}")
            assert not found[0]["claim"] or f"by {found[0]['claim']}: {found[0]['reason']}" in reading
            seen += found[0]["verdict"] == "accepted"
    assert 0 < seen < 32


#: Sets a slider and says so, as a hand on it does.
MOVE = """([id, value]) => {
  const slider = document.getElementById(id);
  slider.valueAsNumber = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
}"""


def test_a_calendar_counts_its_months_and_keeps_its_cases_in_order():
    row = {"claim": "", "reason": ""}
    spans = [
        {"case": "b", "from": "2024-11-01T00:00:00Z", "to": "2025-01-01T00:00:00Z", "verdict": "accepted", **row},
        {"case": "a", "from": "2025-02-01T00:00:00Z", "to": "2025-02-01T00:00:00Z", "verdict": "rejected", **row},
        {"case": "a", "from": "2024-11-01T00:00:00Z", "to": "2025-01-01T00:00:00Z", "verdict": "accepted", **row},
    ]
    months, cases = calendar_data(spans)
    assert months == ["2024-11", "2024-12", "2025-01", "2025-02"]
    assert [one["case"] for one in cases] == ["b", "a"]
    assert [(span["first"], span["last"], span["verdict"]) for span in cases[1]["spans"]] == [
        (0, 2, "accepted"),
        (3, 3, "rejected"),
    ]
