"""One schema for the parameters of all notebooks: each has a range, holds its defaults, refuses the rest at once."""

import ast
import time

import pytest

from otr_core.errors import InputError
from otr_node.project import find_project
from otr_paper.press.notebook import parameter_names
from otr_paper.press.parameters import PARAMETERS, check_parameters
from otr_paper.press.reproduce import notebook_names
from otr_paper.press.runner import read_notebook, run_notebook

PROJECT = find_project()
BOOKS = {name: read_notebook(PROJECT.notebooks / f"{name}.ipynb") for name in notebook_names(PROJECT)}
EVERY = [(book, name) for book, stored in BOOKS.items() for name in parameter_names(stored)]

#: What no parameter may hold, whatever it is, and for each name what lies just outside its range.
NEVER = (None, True, [], {}, b"x", "", "   ", float("nan"))
OUTSIDE = {
    "mode": ("strored", "STORED", 0),
    "profile": ("big", 1),
    "device": ("tpu", "cuda:0"),
    "seed": (-1, 2**63, 1.5, "1"),
    "as_of": ("yesterday", "2026-13-01", 20261125, "2026-11-25T25:00"),
    "prompt": ("x" * 2001, 5),
    "max_tokens": (3, 257, 5.5),
    "layer": (-1, 30, 99),
    "rho": (-0.01, 1.01, 2, "5%"),
    "rho_ppm": (-1, 1_000_001, 0.01),
    "live_units": (0, 17),
    "unit_rows": (7, 16, 8.5),
    "stake_usd": (0, -1, 1e10, float("inf")),
    "gain_usd": (-1, 1e10),
    "slash_fraction": (-0.1, 1.1),
    "reward_share": (-0.1, 1.1),
    "base_s": (-1, 3601),
    "proof_s": (-1, 604_801),
    "proof_usd": (-1, 1e10),
    "load": (0, 11),
    "provers": (0, 100_001, 1.5),
    "live": (0, 1, "True", "yes"),
    "attack": ("x" * 121, 5),
    "seconds": (9, 901, float("inf"), "60"),
}
INSIDE = {
    "mode": ("stored", "fresh"),
    "as_of": ("2026-11-25", "2026-11-25T10:00:00+00:00"),
    "prompt": ("x", "x" * 2000),
    "rho": (0, 1, 0.01),
    "layer": (0, 29),
    "unit_rows": (8, 64),
    "seed": (0, 2**63 - 1),
    "stake_usd": (1e-6, 1e9),
    "load": (0.01, 10),
    "live": (True, False),
    "seconds": (10, 900, 60.5),
}


def declared(book):
    """Name -> the value that the parameters cell gives it."""
    (cell,) = [cell for cell in book["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    return {node.target.id: ast.literal_eval(node.value) for node in ast.parse("".join(cell["source"])).body}


def test_every_parameter_of_a_notebook_has_a_range_and_each_range_a_notebook():
    assert {name for _, name in EVERY} == PARAMETERS.keys() == OUTSIDE.keys()


@pytest.mark.parametrize("name", BOOKS)
def test_what_a_notebook_starts_with_is_within_the_ranges(name):
    check_parameters(declared(BOOKS[name]))


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_lies_outside_is_refused_in_one_line_that_says_the_range(name):
    never = [value for value in NEVER if not (value is True and PARAMETERS[name].kind is bool)]
    for value in (*OUTSIDE[name], *never):
        with pytest.raises(InputError) as refused:
            check_parameters({name: value})
        assert str(refused.value).startswith(f"{name}: found ")
        assert f"expected {PARAMETERS[name].domain()}" in str(refused.value)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 300


def test_the_ends_of_a_range_are_within_it():
    for name, values in INSIDE.items():
        for value in values:
            check_parameters({name: value})


def test_a_name_without_a_range_is_refused():
    with pytest.raises(InputError, match="found no range"):
        check_parameters({"colour": "blue"})


@pytest.mark.parametrize(("book", "name"), EVERY)
def test_a_notebook_is_refused_before_a_kernel_starts(book, name, tmp_path):
    started = time.process_time()
    for value in OUTSIDE[name]:
        source = PROJECT.notebooks / f"{book}.ipynb"
        with pytest.raises(InputError, match=f"^{name}: found"):
            run_notebook(source, tmp_path / "out.ipynb", tmp_path / "figures", {name: value})
    assert not any(tmp_path.iterdir())
    assert time.process_time() - started < 10


@pytest.mark.slow
def test_papermill_by_itself_is_refused_by_the_first_call(tmp_path):
    """Who runs papermill without this project's runner meets the same check in the notebook."""
    import papermill

    with pytest.raises(papermill.PapermillExecutionError, match="rho: found 2, expected a number from 0 to 1"):
        papermill.execute_notebook(
            str(PROJECT.notebooks / "05_spot_check_economics.ipynb"),
            str(tmp_path / "out.ipynb"),
            parameters={"rho": 2},
            cwd=str(PROJECT.notebooks),
            progress_bar=False,
        )
