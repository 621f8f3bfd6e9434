"""The house: three packages whose imports go one way, rooms that keep to their budgets, and no line
without a door."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

PACKAGES = ("otr_core", "otr_node", "otr_paper")

#: Floors of the core: a room imports from its own floor's rooms only through what stands lower.
FLOORS = (
    {"errors", "encoding", "merkle", "files", "extras"},
    {"lane"},
    {"attestation", "poea"},
    {"dispute", "spotcheck"},
    {"cli"},
)

#: Most lines of code a room may have: docstrings, comments and blank lines apart, contracts
#: included. Whoever raises a number says why beside it.
BUDGETS = {
    # 8,000 until the receipt states the answer and comes from real evidence; 10,000 once proofs of
    # whole answers are verified in it. It holds more since then: a court of two contracts with duties,
    # and machines appraised as a whole; and advice that weighs users' harm; the profile of a deployment; a
    # spot check as one machine of moves, with its messages, 400; a second lane that is disputed, with its
    # judge on chain, 1,300. What may leave it is an open point of the README.
    # whole answers under a commitment to the model, 160; the field of proofs by parts that stay in a cache, 50;
    # what a court takes beside what is sized, 27; a broken file told as such, and a reason told once, 5; who answers
    # for a commitment to a model, 109
    # a command that is interrupted says so, and so does one whose disk is full, 15
    # command lines that cannot be meant told in one line, and folders where a file is to be, 16
    # for a commitment to a model, 109; failures that name their file, signers that are left out, and evidence
    # against one, 20; places of code words alone, and columns combined at once, 22
    # blocks that an H100 taught another word for, 6
    # pledges of who vouches for a commitment, in Python and on chain, 234
    # configs read as transformers reads them, or refused, 21
    # dates that exist, answers that can be counted, 13
    # the portable lane of models whose queries and keys have norms, under a name of its own, 20; heads and rows
    # that divide nothing, 10
    # what a verifier asks of a pledge, as a policy, 18; texts of others' choice on one line of a message, 1
    # rows of a proof as facts or as columns, so that a relation has one body for both, 313
    # numbers beyond what a search can be asked for, 5
    # proofs that tell nothing of the weights, drawn answers among them, 400
    "otr_core": 16835,
    # eleven families as data, their rotations, and a program that is built for each; a block of tensor
    # cores by its instructions, the fp32 steps beside it, and those of a lane made of both; that lane as
    # a program with one definition of each step, on numbers of integers alone, 330
    # blocks of which rounding leaves nothing, told apart, 7
    # entries of a config that transformers reads otherwise than they look, each refused or followed, 23
    # a second name of the lane, 5, and keys in two pieces, 4
    "otr_core/lane": 1966,
    # machines as a whole, AMD's reports, policies that name what they expect and waive, and files that
    # messages name and threads share; what is the same in many appraisals is computed once; the one form of
    # a manifest's signature, judged here because a library for all forms parsed each manifest five times, 60
    "otr_core/attestation": 2663,
    # order, statement, the checks against both, and the seam to evidence of hardware
    # a lane that the family does not have, 4
    "otr_core/poea": 1303,
    # two contracts, court and table, each with its structs, interfaces and events; moves for each
    # field of a statement; duties, roles and pauses, in Python and on chain; the judge's program as words;
    # the contract that judges a block of a tensor core; moves in modules by level, each with its imports
    # a class of platforms for each batch, two keys of an arbiter, a last second for duties; the profile of a
    # deployment, whose numbers have to fit together, 90; the judge of the lane of tensor-core blocks and the
    # contract of its fp32 steps, 930
    # a second name of the lane, and keys in two pieces, 10
    "otr_core/dispute": 5040,
    # of it the verifier of whole answers with its gadgets, 1,370, drawn ones among them; the protocol from a
    # signed receipt to a verdict, and its messages as canonical JSON, 400; the same proof for a verifier who
    # holds a commitment to the model, 220; large arrays of its field by parts, tables by halves, and a sum of
    # equality without its table, 51; signed statements of commitments with the policy that asks for them, and judges
    # of terms that name one, 109; signers that are left out, and evidence against one, 12;
    # places of code words alone, and columns combined at once, 22
    # what is lost for a false word about a commitment, in Python and as a contract, 238
    # what a verifier asks of a pledge, as a policy, 18
    # rows of a proof as facts or as columns: their columns, widths and relations, 313
    # masks, tails and the end of a conversation that hides, and drawn answers in it, 400
    "otr_core/spotcheck": 3848,
    # of it the composed guarantee with its premises, 290; all that many answers on one stake need; users'
    # harm, fishermen and rates by value, which the advice weighs with proofs and capital; what harm users bear
    # who act early, and advice that names a hypothesis that fails, 40; the choices of a deployment in the network
    # file, each missing one named, 29
    # dates that exist, answers that can be counted, 14
    # numbers beyond what a search can be asked for, 5
    "otr_core/economics": 1388,
    # circuits, keys and proofs stand here, so that the core needs no proof library; all that reads a
    # checkpoint, with a frozen environment of its own for templates; the recorder with the process
    # that hashes; integer products of their own, which a library's floats would outrun, for one
    # sequence, for many that come and go, and on a device; a court read from its logs alone; families:
    # their operations compiled and in NumPy, and any decoder in the native lane; blocks of tensor cores
    # replayed, compiled and in NumPy, and the lane of such blocks; the server with its client; a chain by
    # a node's URL, games followed through its logs, the processes that watch and defend there, and what
    # arbiters look at before they sign; the report on a network of one's own, with its constants; both sides
    # of a drawn check, with its commands; every value of a program of tensor-core blocks; batches that hold no
    # receipt twice, whatever ended between two of them; the embedded chain as a node of its own, with its
    # journal and door, for machines without anvil, and what was signed kept by chain, 380; tensor-core blocks
    # on a GPU: the kernel, the fp32 steps beside it, a session of both, and the check that compares them with
    # the replay at every start, 350; models of either judged lane for who plays at a court, 20; commitments to
    # models, made a few rows at a time, and their command, 280; receipts that wait for their key, 40, and sized
    # profiles, 80; a prover four times faster, 70
    # the library's bars and warnings, kept quiet in one place, 18; a token's product in one loop, 34, and trees of
    # ones and columns alone, 107
    # side pieces alone told as such, 2
    # a node that starts again with its own first block, another chain noticed, an operator that is convicted, 28
    # statements of commitments signed, asked for and shown to be false, and checks under the one that terms name, 95
    # loops compiled by one process at a time, 28; nodes and children that end with who started them, 11
    # a convicted operator that stops trying, 5
    # threads that no machine has, told as such, 3
    # signers looked up at a court, with the options of whoever asks for them, 90; both sides of a check of a
    # verifier without weights refuse what cannot be judged, by the file's name, 29
    # the claims set of a token, which was in the core, 66; weights asked for before they are needed, 12; in blocks
    # with large pages, 15
    # a verdict that is written, and one exit status for what was not judged, 17; a log that names a folder, 1
    # pledges at a node, with their commands and a verifier's options, 260; a receipt that ends at a bad time, 2;
    # a driver that gives no report, told why, 9
    # tensors that a checkpoint holds and the model would not be made of, decoders whose state is elsewhere, and
    # what a full disk or a killed process leaves of a conversion, 41
    # a receipt that is written while it is asked for, 2; stakes in whole dollars, and constants that go
    # with their report, 4
    # norms of queries and keys, brought together, 6; rows of no whole tiles, and a record that leaves out a file, 5
    # a verifier's options on notice and arbiter of pledges, 11; who may vouch told as too few, what nobody would lose
    # said before it is paid for, and a judge that signs for nobody, 12
    # rows of a proof as columns, 189
    # a row without fishermen, a profile that goes with its report, and targets tried before they are used, 13
    # the prover that hides, its secret, and draws in limbs, 330
    "otr_node": 17126,
    # files as people have them, tokens of third parties and our own, and the vendors' services
    "otr_node/evidence": 1174,
    # of it what a prover that was ended goes on with, and what a holder of the model finds of it before
    # a proof is asked for, 40; the commitment to a model and its opening, and commands that were elsewhere; sums
    # that are reduced late, and a joining sum-check that writes no weights down: the prover is four times faster, 70;
    # trees of ones, rounds that follow from the claim, and columns that are encoded alone, 107
    # statements of commitments in its commands, 64; whose word is taken, as options and as a policy, 62
    # commands of pledges, and a verifier's options, 168; on notice and arbiter, 11;
    # what nobody would lose said before it is paid for, and a judge that signs for nobody, 8
    # rows of a witness as facts or as columns, and the factors of their sum-checks, 189
    # the prover that hides, its secret, and draws in limbs, 330
    "otr_node/proof": 2647,
    # what the OpenAI API says and what it must refuse, an engine that outlives what fails in it, a journal
    # that outlives the program, and the operator beside it with its book of batches; receipts in it that wait for
    # a key, and an operator that others build on, 30; one that is convicted, 9
    # its log names the state folder, 1
    # a receipt that is written while it is asked for, 2
    "otr_node/server": 2002,
    # claims, terms, losses, the report and its page, and the table of use cases that left the core; the profile of
    # a deployment of what was sized, 85
    # a break of the judge told apart from what deters, 1
    # a row without fishermen, a profile that goes with its report, and targets tried before they are used, 13
    "otr_node/sizing": 909,
    # of it the producers of stored results, the free opponents of disputes and of a stake, the bench of the
    # server, a network of processes that one command starts and faults that befall it, the site with its
    # explorers, the chain of custody, where verdicts flip, the crate of a run, and the figures, which stood
    # in the notebooks' cells; structured cheats under every check; one run of the network, as rows and
    # drawn, and a key's life, 450; disputes about one block of a tensor core;
    # the form of a notebook's parameters and the grid over them, 180; how a proof of a whole answer grows,
    # measured and carried to larger models, 260; what a GPU is recorded with in the lane of such blocks, 140;
    # a serving machine with a token budget, its fit and what it is worth, 300; campaigns of three seeds in
    # either lane whose answers a court judges, 118; servers as processes of a network, how they lie, and by which
    # clock they go, 70; proofs forged at every limb, and provers of others beside ours, 500; three seeds wherever
    # chance enters, and a prefix cache that forgets, 140
    # files of 8 MB that are slow to read, and the best of short blocks, 82
    # three clients in place of one, stakes put down by processes, who ends without saying why, and what receipts cost
    # on its page, 115
    # proofs forged by freer provers, 423
    # a grid that goes on where it was stopped, 23; words of figures that are large enough and whole, 32
    # notebooks run several at a time, 83; the last words of processes whose disk is full, faults that wait, 31
    # a check of figures for words that lie on something, notes placed by it, and keys of marks, 118; limits of
    # what a measurement may be asked to do, 25
    # runs of several seeds as one measurement, and their ends where they are shown, 51
    # a serving law beside earlier releases, 28; one spelling of shares, and a page of claims for strangers, 46;
    # published provers in rows, and a title that counts what is drawn, 10
    # words of F12 of the size that a reader needs, 1; the terminal's shares spelled as everywhere, 2
    # what an H100 gave: hunted, timed, answered, drawn again without it, and shown, 390
    # sweeps that outlive their workers, and prices that have dates, 28
    # a number of another claim than the one that is asked for, 3
    # families whose heads divide neither a piece nor a row, 10
    # gas of pledges and of the parts of a fraud proof, with the contract that measures these, 133
    # provers that name where rows are open, 3
    # numbers of prose, prints and captions that come from data, 13
    # sources that a plain reading keeps, and numbers beyond what a sweep takes, 3
    # a proof that hides in the bench and in notebook 04, 39
    "otr_paper": 26671,
    # of it rules as data, conditions with the rows that meet them, and where each verdict flips and stands; readings
    # from our own prover of whole answers, 140
    # prices that have dates, and claims of the texts that the texts make, 6
    "otr_paper/claims": 2376,
    # its operators state and sign falsehoods, one for each check of a receipt; opponents that are free
    # in every commitment, the search over all their games, and games that break rules all the time;
    # and every attack on evidence runs against every recorded bundle that has the part it changes, of
    # them splices of devices and collateral of other machines; a beacon whose every round can be signed, 20;
    # structured cheats laid into rows and into proofs, 145; a key's life at a court, 140; lies and games in
    # the lane h100-bf16, 35; a prover with one place of its witness changed, read while it proves, 175;
    # provers whose lies cancel, who run other weights or tokens, or replace a message, 381
    # families whose heads divide neither a piece nor a row, 10
    # provers that name where rows are open, 3
    "otr_paper/labs": 5522,
    # of it the mutants of every check of court and contracts, the families table, and a fuzzer that
    # parses, judges and goes on where it was cut off, the network under chaos, blocks and steps on a node;
    # the proof for a verifier without weights, how proofs grow, the law of serving; what seeds and lanes
    # differ in, 15; forged proofs, and provers of others, 110; three seeds wherever chance enters, 45
    # evidence fuzzed under three seeds, 16
    # differ in, 15; forged proofs, and provers of others, 110; chaos from several first seeds, 3
    # differ in, 15; forged proofs, and provers of others, 110; by freer provers, 44
    # runs of several seeds, and what is drawn again alone, 34
    # comparisons of a law that stays as it is, 7
    # five results of a GPU, 145
    # gas of pledges and of the parts of a fraud proof, with the contract that measures these, 107
    "otr_paper/producers": 3480,
    # of it a prefix cache that forgets, and points of several seeds, 65
    # loads of earlier releases beside a law, 21
    "otr_paper/simulation": 1464,
}


#: Where somebody comes in from outside: the command lines. Notebooks, rows of the ledger and
#: programs started by name are read from where they stand.
COMMANDS = ("otr_core.cli", "otr_node.commands", "otr_paper.commands", "otr_paper.bench_commands")

#: Libraries that take long to load or that the base install lacks. They alone, and modules that
#: load them, are a reason to import inside a function.
HEAVY = {
    *("accelerate", "distributed", "dask", "eth", "eth_tester", "ezkl", "gguf", "IPython", "ipywidgets", "joblib"),
    *("eth_abi", "eth_account"),
    *("matplotlib", "nbclient", "nbformat", "numba", "onnx", "pandas", "papermill", "pooch", "pynvml", "pytest"),
    *("safetensors", "scipy", "seaborn", "simpy", "tokenizers", "torch", "transformers", "triton", "vyper", "web3"),
}

#: Of these the core names none at all, inside functions neither: who verifies has them not.
NOT_IN_THE_CORE = HEAVY - {"pytest"}

#: Imports inside functions that have no such reason, package by package. The number may only go
#: down.
UNEXCUSED_IMPORTS = {"otr_core": 23, "otr_node": 0, "otr_paper": 14}

#: Names that several functions may carry, and why.
SHARED_FUNCTIONS = {
    "main": "a program's door",
    "add": "the entry point that each package gives to `otr`",
    "dispute": "the move that begins a dispute, and the bench that plays a whole one",
    "choose_token": "the move that points at a token, and the lane's choice of one",
    "record": "the command `otr record` calls the function",
    "shift": "the definition of the step, and the same step on whole arrays",
}


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture(scope="module")
def modules(project) -> dict[str, Path]:
    """Every module of the three packages: dotted name -> file."""
    found = {}
    for package in PACKAGES:
        found |= {module_name(path, project.root): path for path in (project.root / package).rglob("*.py")}
    return found


def imported(source: str, modules: dict[str, Path]) -> set[str]:
    """Modules of the project that a source names in an import, at its top or inside a function."""
    result = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                result.add(full if full in modules else node.module)
        elif isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
    return result & modules.keys()


@pytest.fixture(scope="module")
def graph(modules) -> dict[str, set[str]]:
    """Module -> the modules of the project that it imports, inside functions too."""
    return {name: imported(path.read_text(), modules) - {name} for name, path in modules.items()}


def test_packages_import_one_way(graph):
    for name, others in graph.items():
        package = name.split(".")[0]
        allowed = PACKAGES[: PACKAGES.index(package) + 1]
        assert all(other.split(".")[0] in allowed for other in others), f"{name} imports {sorted(others)}"


def test_floors_of_the_core_import_downwards(graph):
    def floor(name: str) -> int:
        return next(number for number, rooms in enumerate(FLOORS) if name.split(".")[1] in rooms)

    for name, others in graph.items():
        if name.startswith("otr_core.") and name.split(".")[1] != "economics":
            # The command line shows every room, the economics among them.
            shown = {other for other in others if name == "otr_core.cli" and other.startswith("otr_core.economics")}
            for other in others - {"otr_core"} - shown:
                assert other.split(".")[1] != "economics", f"{name} imports {other}: economics stands beside"
                assert floor(other) <= floor(name), f"{name} imports {other}, a higher floor"
        elif name.startswith("otr_core.economics"):
            beside = {other for other in others if other.split(".")[1] not in {"economics", *FLOORS[0]}}
            assert not beside, f"{name} imports {sorted(beside)}: economics stands beside"


def test_there_are_no_circles(graph):
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_module_takes_a_private_name_from_another(modules):
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{name} imports {private} from {node.module}"


def test_every_module_has_a_door(project, modules, graph):
    """A command, a notebook, a row of the ledger, a program started by name, or a module that has
    one of these."""
    doors = set(COMMANDS)
    rows = yaml.safe_load((project.data / "claims.yaml").read_text())
    doors |= {row["code"].rpartition(".")[0] for row in rows if row["code"]}
    for path in project.notebooks.glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                doors |= imported("".join(cell["source"]), modules)
    started = re.compile(r'"-m", "([\w.]+)"|python -m ([\w.]+)')
    makefile = (project.root / "Makefile").read_text()
    for source in (makefile, *(path.read_text() for path in modules.values())):
        doors |= {first or second for first, second in started.findall(source)}
    # a program that another interpreter runs is named as a file beside the module that starts it
    for name, path in modules.items():
        room = name.rpartition(".")[0]
        doors |= {f"{room}.{file}" for file in re.findall(r'with_name\("(\w+)\.py"\)', path.read_text())}

    reached: set[str] = set()
    waiting = sorted(doors & modules.keys())
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            rooms_around = [name.rsplit(".", number)[0] for number in range(1, name.count(".") + 1)]
            waiting += [*graph[name], *rooms_around]
    assert not sorted(modules.keys() - reached), "no command, notebook, ledger row or program reaches these"


def places_of_names(modules: dict[str, Path], kind: type[ast.ClassDef] | type[ast.FunctionDef]) -> dict[str, list[str]]:
    """Public names of the top level of modules -> the modules that define one."""
    places = defaultdict(list)
    for name, path in modules.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, kind) and not node.name.startswith("_"):
                places[node.name].append(name)
    return places


def test_every_public_class_has_its_own_name(modules):
    places = places_of_names(modules, ast.ClassDef)
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_every_public_function_has_its_own_name(modules):
    # A kernel and its twin have one name.
    twins = {f"otr_node.integers.{part}twins": f"otr_node.integers.{part}kernels" for part in ("", "family_", "block_")}
    kept = {name: path for name, path in modules.items() if name not in twins}
    places = places_of_names(kept, ast.FunctionDef)
    for twin, kernels in twins.items():
        for name in places_of_names({twin: modules[twin]}, ast.FunctionDef):
            if places[name] not in ([kernels], ["otr_node.integers.products"]):
                places[name].append(twin)
    assert not {name: where for name, where in places.items() if len(where) > 1 and name not in SHARED_FUNCTIONS}


def test_every_shared_function_name_is_still_shared(modules):
    places = places_of_names(modules, ast.FunctionDef)
    assert not [name for name in SHARED_FUNCTIONS if len(places[name]) < 2]


def targets(node: ast.AST) -> list[str]:
    """Full names of what an import statement, or a call of ``import_module`` with a literal,
    loads."""
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        return [word.value for word in node.args if isinstance(word, ast.Constant)]
    return []


def library(target: str) -> str:
    return target.split(".")[0]


def test_the_core_names_no_heavy_library(modules):
    found = {
        f"{name}:{node.lineno} {target}"
        for name, path in modules.items()
        if name.startswith("otr_core")
        for node in ast.walk(ast.parse(path.read_text()))
        for target in targets(node)
        if library(target) in NOT_IN_THE_CORE
    }
    assert not sorted(found)


def loaded_at_once(tree: ast.Module) -> Iterator[str]:
    """What importing a module loads: its imports outside functions, those for type checkers left
    out."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield from targets(node)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        waiting += [] if function or for_types else ast.iter_child_nodes(node)


def heavy_modules(modules: dict[str, Path]) -> set[str]:
    """Modules that load a heavy library when they are imported, themselves or through another."""
    loads = {name: set(loaded_at_once(ast.parse(path.read_text()))) for name, path in modules.items()}
    heavy = {name for name, names in loads.items() if {library(target) for target in names} & HEAVY}
    while more := {name for name, names in loads.items() if load_one_of(names, heavy)} - heavy:
        heavy |= more
    return heavy


def load_one_of(names: set[str], heavy: set[str]) -> bool:
    return any(name in heavy or name.rpartition(".")[0] in heavy for name in names)


def test_an_import_inside_a_function_keeps_something_heavy_out(modules):
    """A command imports what it runs; anything else that is light belongs at the top of its
    module."""
    heavy = heavy_modules(modules)
    unexcused: dict[str, set[str]] = defaultdict(set)
    for name, path in modules.items():
        if name in COMMANDS:
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    names = set(targets(node)) if isinstance(node, ast.Import | ast.ImportFrom) else set()
                    if names and not load_one_of(names, heavy) and not {library(one) for one in names} & HEAVY:
                        unexcused[library(name)].add(f"{name}:{node.lineno}")
    for package, most in UNEXCUSED_IMPORTS.items():
        assert len(unexcused[package]) <= most, f"{package}: {len(unexcused[package])}, {sorted(unexcused[package])}"


def test_no_test_takes_a_private_name(project):
    """Neither by import nor as an attribute, nor by replacing it: a test holds what the reader may
    rely on."""
    found = []
    for path in sorted((project.root / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) not in {"self", "cls"}:
                names = [node.attr]
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "monkeypatch.setattr":
                names = [str(word.value) for word in node.args if isinstance(word, ast.Constant)]
            private = [name for name in names if name.startswith("_") and not name.startswith("__")]
            found += [f"{path.relative_to(project.root)}:{node.lineno} {name}" for name in private]
    assert not found


def code_lines(path: Path) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    text = path.read_text()
    if path.suffix == ".vy":
        bare = re.sub(r'(?m)^\s*""".*?"""\s*$', "", text, flags=re.DOTALL)
        return sum(bool(line.strip()) and not line.strip().startswith("#") for line in bare.splitlines())
    apart = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in apart:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", [])
        for child in body if isinstance(body, list) else []:
            text_alone = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if text_alone and isinstance(child.value.value, str):
                lines -= set(range(child.lineno, child.end_lineno + 1))
    return len(lines)


def test_rooms_keep_to_their_budgets(project):
    sizes: Counter[str] = Counter()
    for package in PACKAGES:
        for path in (project.root / package).rglob("*"):
            if path.suffix in {".py", ".vy"}:
                parts = path.relative_to(project.root).parts
                sizes[package] += code_lines(path)
                if len(parts) > 2:
                    sizes["/".join(parts[:2])] += code_lines(path)
    over = [f"{room}: {sizes[room]} lines, budget {most}" for room, most in BUDGETS.items() if sizes[room] > most]
    assert not over, "; ".join(over)
    assert all(sizes[room] for room in BUDGETS), "a budget names a room that is not there"
