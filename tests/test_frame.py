"""The frame holds together: one source of versions, requirements that are what the code imports,
light imports."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from otr_core.extras import EXTRAS


def locked(root: Path) -> dict[str, str]:
    lines = [line for line in (root / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pyproject(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())


def names(requirements: list[str]) -> set[str]:
    return {normal(re.match(r"[A-Za-z0-9_.-]+", item)[0]) for item in requirements}


@pytest.fixture(scope="module")
def declared(project) -> dict[str, set[str]]:
    """Distributions by where pyproject.toml lists them: "base", each extra, each group."""
    document = pyproject(project.root)
    extras = document["project"]["optional-dependencies"]
    lists = {"base": document["project"]["dependencies"], **extras, **document["dependency-groups"]}
    return {key: names(items) for key, items in lists.items() if key != "all"}


@pytest.fixture(scope="module")
def roots() -> dict[str, set[str]]:
    """The names each installed distribution is imported under."""
    found: dict[str, set[str]] = {}
    for root, distributions in importlib.metadata.packages_distributions().items():
        for name in distributions:
            found.setdefault(normal(name), set()).add(root)
    return found


def third_party(*sources: str) -> set[str]:
    """Roots of all imports in the sources, those inside functions included, without Python's and
    the project's own."""
    found: set[str] = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return {root for root in found - sys.stdlib_module_names if not root.startswith("otr_")}


def package_sources(root: Path, package: str) -> list[str]:
    return [path.read_text() for path in (root / package).rglob("*.py")]


def notebook_sources(root: Path) -> list[str]:
    cells = [
        "".join(cell["source"])
        for path in sorted((root / "notebooks").glob("*.ipynb"))
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    return ["\n".join(line for line in cell.splitlines() if not line.startswith("%")) for cell in cells]


NOT_REQUIRED = {
    "pynvml": "reads a GPU where there is one; `otr record` says so where it is absent",
    "OpenSSL": "of the environment in which producers/nvidia_verifier.py runs NVIDIA's own verifier",
    "verifier": "the same",
    "hypothesis": "of the test group: producers/economics_mutants.py runs the tests",
    "pytest": "the same",
    "triton": "extra cuda, which a CUDA build of torch brings; without it the lane h100-bf16 runs on CPUs alone",
    "z3": "of the test group: producers/guarantee.py proves the lemmas that the tests prove again",
}
NOT_IMPORTED = {
    "accelerate": "transformers reads GGUF files with it",
    "gguf": "the same",
    "furo": "the site's look: Sphinx loads it by its name",
    "myst-nb": "reads notebooks and Markdown for Sphinx, which loads it by its name",
    "ipykernel": "runs the notebooks",
    "jupyterlab": "`make lab`",
    "pyyaml": "`otr claims` reads the ledger with it, which needs no extra",
}
BESIDE = {"cuda"}
"""Extras that neither `all` nor the lock has: they serve special machines."""
MAY_USE = {
    "otr_core": ("base",),
    "otr_node": ("base", "node", "proofs", "chain", "serve"),
    "otr_paper": ("base", "node", "proofs", "chain", "serve", "paper", "site"),
}


@pytest.mark.parametrize("package", MAY_USE)
def test_what_a_package_imports_is_required(project, declared, roots, package):
    allowed = {root for key in MAY_USE[package] for name in declared[key] for root in roots[name]}
    imported = third_party(*package_sources(project.root, package))
    assert imported - allowed - NOT_REQUIRED.keys() == set()


@pytest.mark.parametrize(
    ("key", "users"),
    [
        ("base", ["otr_core"]),
        ("node", ["otr_node"]),
        ("proofs", ["otr_node"]),
        ("chain", ["otr_node"]),
        ("serve", ["otr_node"]),
        ("paper", ["otr_paper", "notebooks"]),
        ("site", ["otr_paper"]),
        ("test", ["tests"]),
    ],
)
def test_what_is_required_is_imported(project, declared, roots, key, users):
    sources = [text for user in users if user != "notebooks" for text in package_sources(project.root, user)]
    imported = third_party(*sources, *(notebook_sources(project.root) if "notebooks" in users else []))
    tools = {"check-jsonschema", "hatchling", "nbval", "pytest-timeout", "pytest-xdist"}  # run, not imported
    idle = {name for name in declared[key] if not roots[name] & imported}
    assert idle - NOT_IMPORTED.keys() - tools == set()


def test_extras_are_recognised_by_what_they_bring(declared, roots):
    with_the_base = {"eth-utils"}  # eth-keys needs it
    assert EXTRAS.keys() == declared.keys() - {"base", "test", "lint"}
    for extra, modules in ((extra, EXTRAS[extra]) for extra in EXTRAS.keys() - BESIDE):
        assert set(modules) <= {root for name in declared[extra] for root in roots[name]}
        unseen = {name for name in declared[extra] - with_the_base if not roots[name] & set(modules)}
        assert not unseen, f"{extra}: nothing in EXTRAS tells that {unseen} is missing"


def test_all_is_every_extra(project, declared):
    (everything,) = pyproject(project.root)["project"]["optional-dependencies"]["all"]
    assert set(everything.removeprefix("otr-core[").rstrip("]").split(",")) == EXTRAS.keys() - BESIDE


def test_every_direct_requirement_is_pinned_in_the_lock(project, declared):
    build = names(pyproject(project.root)["build-system"]["requires"])
    wanted = [names for key, names in declared.items() if key not in BESIDE]
    assert set.union(build, *wanted) <= set(locked(project.root))
    assert not set.union(*(declared[key] for key in BESIDE)) & set(locked(project.root))


def test_every_locked_version_but_torch_s_has_its_hashes(project):
    """``pip install --require-hashes`` takes the same versions as the lock; torch is pinned without
    a hash."""
    text = (project.root / "requirements.hashes").read_text().replace("\\\n", " ")
    rows = [line.split() for line in text.splitlines() if line and line[0] != "#"]
    versions = {normal(name): version for name, version in (row[0].split("==") for row in rows)}
    lock = locked(project.root)
    assert lock.pop("torch") == "2.13.0"
    assert versions == lock
    for row in rows:
        assert len(row) > 1, row[0]
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", part) for part in row[1:]), row[0]


def test_the_packages_the_user_named_are_there(project):
    named = {
        "jupyterlab",
        "papermill",
        "pandas",
        "numpy",
        "torch",
        "transformers",
        "seaborn",
        "ezkl",
        "pytest",
        "nbval",
    }
    assert named <= set(locked(project.root))
    assert locked(project.root)["torch"] == "2.13.0"


def test_the_environment_is_what_the_lock_says(project):
    for name, version in locked(project.root).items():
        assert importlib.metadata.version(name).split("+")[0] == version.split("+")[0], name


def test_conda_and_binder_use_the_same_lock_and_the_same_python(project):
    document = yaml.safe_load((project.root / "environment.yml").read_text())
    python, pip, section = document["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert section == {"pip": ["-r requirements.lock", "-e ."]}
    assert pyproject(project.root)["project"]["requires-python"] == ">=3.11,<3.12"


LIGHT = [
    *("otr_core.merkle", "otr_core.encoding", "otr_core.economics", "otr_core.attestation", "otr_core.poea"),
    *("otr_core.lane.step", "otr_core.dispute.game", "otr_core.cli", "otr_paper.claims.ledger"),
]


@pytest.mark.parametrize("part", LIGHT)
def test_importing_a_part_does_not_load_another_s_heavy_libraries(part):
    heavy = {"torch", "transformers", "ezkl", "matplotlib", "scipy", "dask", "papermill"}
    code = f"import sys, {part}; print(*sorted({heavy!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_nothing_committed_names_a_machine_or_a_package_host(project):
    files = subprocess.run(
        ["git", "ls-files"], cwd=project.root, capture_output=True, text=True, check=True
    ).stdout.split()
    pattern = re.compile("/(wo" + "rk|ro" + r"ot)/|/ho" + r"me/[a-z]|pypi\.or" + r"g|pythonhost" + "ed|index-u" + "rl")
    for name in files:
        path = project.root / name
        if path.suffix not in {".png", ".pdf"} and path.is_file():
            found = pattern.search(path.read_text("utf-8"))
            assert not found, f"{name}: {found[0]}"


def test_a_checkout_stays_small(project):
    """Figures are committed as PNG and CSV only, CSVs as far as a figure shows them; the rest is
    made again. A megabyte more since there are ten notebooks, and stored runs of the network; a whole one since a
    chain has a door of its own, a second lane its kernel and its judges, and claims are read with our own proofs;
    points of a sweep with the spread of their seeds, freer forgers, and figures whose words are of 8 points; half
    of one for two hundred runs of the network and disputes of three seeds, and of what a GPU gave;
    tests of lanes by family, and of heads that divide nothing; gas of pledges, and what a verifier asks of them;
    a tenth for proofs that hide, rows as columns, and their forgers."""
    files = subprocess.run(["git", "ls-files"], cwd=project.root, capture_output=True, text=True, check=True).stdout
    sizes = {name: (project.root / name).stat().st_size for name in files.split() if (project.root / name).is_file()}
    assert sum(sizes.values()) < 17_700_000, sorted(sizes.items(), key=lambda item: -item[1])[:10]
    assert not [name for name in sizes if name.startswith("figures/") and not name.endswith((".png", ".csv", ".md"))]
