"""Every parameter that a notebook declares changes a figure or a table of it."""

import ast
import time

import pandas as pd
import pytest

from otr_core.errors import OtrError
from otr_node import lanes
from otr_node.project import find_project
from otr_paper.benches import workbench
from otr_paper.press.grid import NOT_HERE, VALUES, points
from otr_paper.press.parameters import PARAMETERS as ADMITTED
from otr_paper.press.parameters import check_parameters
from otr_paper.press.reproduce import notebook_names
from otr_paper.press.runner import read_notebook
from tests.helpers.slices import OF_SESSION, SlicedNotebook, read

PROJECT = find_project()
BOOKS = {
    name: SlicedNotebook(name, read_notebook(PROJECT.notebooks / f"{name}.ipynb")) for name in notebook_names(PROJECT)
}
EVERY = [(book, name) for book, sliced in BOOKS.items() for name in sliced.parameters]

#: Where a parameter's figure needs a model, or a population played by many seeds.
SLOW = {("02_poea_binding", name) for name in ("profile", "seed", "prompt", "max_tokens", "device")}
SLOW |= {("03_dispute_bisection", name) for name in ("profile", "seed", "layer")}
SLOW |= {("04_zk_spot_checks", name) for name in ("profile", "seed", "live_units", "unit_rows")}
SLOW |= {("05_spot_check_economics", "seed")}


#: Outputs that are looked at first: of those that run a model, the cheapest.
FIRST = ("T05e_inconclusive", "T14b_order_and_answer", "F08_one_dispute", "F14_deterrence_map")


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """A model as it lies in its folder is loaded, and committed to, once: no value changes what is loaded, and one
    that did (lane, device) would be told apart by its name."""
    models, trees = {}, {}
    load, commit = lanes.load_model, workbench.commit_model

    def load_once(folder, **about):
        named = (folder, *sorted(about.items()))
        if about.keys() - {"lane", "device", "threads"}:
            return load(folder, **about)
        if named not in models:
            models[named] = load(folder, **about)
        return models[named]

    def commit_once(model):
        if id(model) not in trees:
            trees[id(model)] = model, commit(model)
        return trees[id(model)][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "load_model", load_once)
        patch.setattr(workbench, "load_model", load_once)
        patch.setattr(workbench, "commit_model", commit_once)
        yield


def outputs_of(sliced, name):
    """The outputs that a parameter can change, those made by the fewest statements first."""
    reached = [one for one in sliced.outputs if name in one.parameters]
    return sorted(reached, key=lambda one: (one.name not in FIRST, len(one.statements)))


def different(tables):
    """How many of the tables differ from each other, to ten digits."""
    return len(
        {table.to_csv(float_format="%.10g") if isinstance(table, pd.DataFrame) else str(table) for table in tables}
    )


def chosen():
    slow = pytest.mark.slow
    return [pytest.param(*one, marks=slow if one in SLOW else ()) for one in EVERY if one[1] not in NOT_HERE]


@pytest.mark.parametrize(("book", "name"), chosen())
def test_each_parameter_changes_a_figure_or_a_table(book, name):
    """Three values, three different outputs; two of a profile, and where an output needs a model: the grid of
    the workflow runs all three."""
    values = VALUES[name][: 2 if (book, name) in SLOW else 3]
    found = {}
    for output in outputs_of(BOOKS[book], name):
        found[output.name] = different(list(BOOKS[book].compute(output, name, values)))
        if found[output.name] == len(values):
            return
    pytest.fail(f"{book}: {name} reaches {found or 'no output'}; {len(values)} different ones expected")


def test_the_time_of_a_proof_reaches_the_simulation_and_not_only_the_law():
    sliced = BOOKS["07_latency_cost_throughput"]
    (output,) = [one for one in sliced.outputs if one.name == "T09c_your_case"]
    quick, slow = (table.set_index("quantity").yours for table in sliced.compute(output, "proof_s", (10.0, 1200.0)))
    row = "mean latency with 100 provers"
    assert float(quick[row].split()[0]) < float(slow[row].split()[0])


@pytest.mark.parametrize(("book", "name"), [one for one in EVERY if one[1] == "mode"])
def test_a_mode_is_read(book, name):
    """Stored and fresh are the same numbers, so no figure has to tell them apart: some statement has to."""
    assert any(name in read(node) for _, node in BOOKS[book].statements)


@pytest.mark.slow
@pytest.mark.model
def test_a_device_is_used_or_refused_by_name_within_ten_seconds():
    import torch

    sliced = BOOKS["02_poea_binding"]
    output = next(one for one in outputs_of(sliced, "device"))
    if torch.cuda.is_available():
        cpu, cuda = sliced.compute(output, "device", ("cpu", "cuda"))
        assert list(cpu.columns) == list(cuda.columns)
        return
    started = time.process_time()
    with pytest.raises(OtrError, match="device: found no CUDA device"):
        list(sliced.compute(output, "device", ("cuda",)))
    assert time.process_time() - started < 10


def test_what_a_live_run_takes_is_read_where_it_is_started():
    live = {"live", "attack", "seconds"}
    (started,) = [node for _, node in BOOKS["09_network"].statements if live & set(read(node))]
    assert live <= set(read(started))


def test_a_notebook_declares_only_what_it_uses():
    for book, name in EVERY:
        assert outputs_of(BOOKS[book], name) or any(name in read(node) for _, node in BOOKS[book].statements), (
            book,
            name,
        )


def test_what_lies_outside_a_range_is_refused_before_anything_is_computed():
    sliced = BOOKS["05_spot_check_economics"]
    output = outputs_of(sliced, "rho")[0]
    with pytest.raises(OtrError, match="rho: found 2, expected a number from 0 to 1"):
        list(sliced.compute(output, "rho", (2,)))


def test_the_grid_goes_to_the_ends_of_what_is_admitted():
    """A share of one, a rate of nought and a proof that takes no time once crashed a notebook that admits them."""
    for name, values in VALUES.items():
        about = ADMITTED[name]
        if about.kind in (int, float) and not about.choices:
            ends = {about.low, about.high} & set(values)
            assert len(ends) >= (2 if about.unit == "probability" else 1), name


def book(*cells):
    """A notebook of the given code cells, the first of them its parameters."""
    made = [{"cell_type": "code", "source": text, "metadata": {}} for text in cells]
    made[0]["metadata"] = {"tags": ["parameters"]}
    return {"cells": made}


STARTED = "from otr_paper.press import notebook\nrun = notebook.start('06_poq_vs_otr', globals())"
PARAMETERS = "rho: float = 0.5\nseed: int = 1"


def test_a_slice_holds_what_its_output_needs_and_no_more():
    sliced = SlicedNotebook(
        "x",
        book(
            PARAMETERS,
            "a = rho\nb = seed\nrows = [a]\nrows.append(2)\nother = [b]",
            'run.table("T1", rows, kind="", caption=str(b))\nrows = [3]\n'
            'run.table("T2", rows + [run.seed], kind="", caption="")',
        ),
    )
    one, two = sliced.outputs
    assert [ast.unparse(node) for node in one.statements] == ["a = rho", "rows = [a]", "rows.append(2)"]
    assert (one.parameters, two.parameters) == ({"rho"}, {"seed"})
    assert [ast.unparse(node) for node in two.statements] == ["rows = [3]"]
    assert set(OF_SESSION.values()) == {"mode", "profile", "seed", "device"}


def test_values_are_computed_each_by_itself():
    """A cell that depends on the parameter begins anew for each value; one that does not is left as it was."""
    cells = (PARAMETERS, STARTED, "kept = []\nkept.append(seed)", "seen = []\nseen.append(rho)\nkept_too = kept + seen")
    shown = 'run.table("T1", kept_too + [run.seed], kind="", caption="")'
    (output,) = (sliced := SlicedNotebook("x", book(*cells, shown))).outputs
    assert list(sliced.compute(output, "rho", (0.1, 0.2))) == [[1, 0.1, 1], [1, 0.2, 1]]
    assert list(sliced.compute(output, "seed", (7, 8))) == [[7, 0.5, 7], [8, 0.5, 8]]
    with pytest.raises(OtrError, match="rho: found 2"):
        list(sliced.compute(output, "rho", (2,)))


@pytest.mark.parametrize("book", BOOKS)
def test_the_grid_holds_every_parameter_at_values_that_are_admitted(book):
    """Papermill runs over it are the workflow's (``make grid``): they take a quarter of an hour."""
    runs = points(PROJECT, book)
    for name in set(BOOKS[book].parameters) - set(NOT_HERE):
        tried = [given[name] for given in runs if name in given]
        assert set(VALUES[name]) <= set(tried)
    for given in runs:
        check_parameters(given)
