"""Each check and step of the lane's judge changed once: some step, or some word, shows it. All changes of
a contract are compiled together, and a number in its code says which one counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest

from otr_core.dispute.words import tensor_words
from otr_core.lane import blocks, tensor_steps
from otr_core.lane.element import LAYER, TOKEN
from otr_core.lane.fp32 import Fp32, as_objects
from otr_core.lane.tensor_primitives import fixed, narrowed
from otr_core.lane.tensor_steps import LANE
from otr_node.chain.evm import Chain, call_data, compile_source, compile_vyper
from otr_node.chain.interface import Contract
from otr_node.chain.onchain import FOLDER, TENSOR_JUDGE
from otr_paper.benches.contract_mutants import SENTINEL
from otr_paper.benches.judge_steps import DrawnProgram, StepTally, by_batches, calldata, compare_at_judge, drawn_words
from otr_paper.labs.disputes.world import tiny
from tests.helpers.exact_floats import word_of
from tests.helpers.nodes import anvil, ask, forward, needs_anvil
from tests.otr_node.chain.test_tensor_refusals import sort_of, spoilt

pytestmark = [pytest.mark.slow, needs_anvil]
#: Where an expression stands ({}), the expression, and another one.
JUDGE = [
    ("assert {} and node", "used == len(o.proof)", "True"),
    ("(o.proof) and {}, ", "node == root", "True"),
    ('assert {}, "opening length"', "len(o.data) == length", "True"),
    ('assert {}, "path"', "next < len(proof)", "True"),
    ('{}, "openings"\n        return self._i64', "len(openings) == 1", "True"),
    ("if place.step > {}:\n        start", "0", "1"),
    ("return value == roots.after and {}", "index == roots.after_index", "True"),
    ("return {} and index", "value == roots.after", "True"),
    ("convert({}, uint256)\n\n\n@pure\n@internal\ndef _ordered", "x & LOW", "x & (LOW >> 1)"),
    ("if {}:\n        return convert(INFINITY + 1", "magnitude > INFINITY", "False"),
    ("if word <= NAN else {}", "-convert(magnitude, int256)", "convert(magnitude, int256)"),
    ("if {} == e % 32", "(step * T + i) % 32", "i % 32"),
    ("self._held({}), used", "MINUS_INFINITY", "INFINITY"),
    ("if {}:\n            best", "step == 0", "step == 1"),
    ("return self._held(best), {}, 1", "index if kind == FIRST_HIGHEST else 0", "index"),
    ("{}:\n            return 0, 0\n        if at ==", "if at > place.position", "if at > place.position + 99"),
    ("if {}:\n            return 0, 0\n        top", "e % padded > place.position", "False"),
    ("{}:\n            return 0, 0, 0", "if at > place.position", "if at > place.position + 99"),
    ("= {} if mark == 2", "(HEAD_COUNT + KV_COUNT) * T", "HEAD_COUNT * T"),
    ("e // T + ({} if mark", "HEAD_COUNT", "0"),
    ("{})), 2\n    if kind == NARROW", "e % T >= half", "e % T > half"),
    ("if {}:\n                index = convert(step", "kind == DRAW and index < 0 and value > target", "kind == DRAW"),
    ("value = {}\n        else:\n            value += v", "max(value, v)", "v"),
    ("Floats(JUDGE_OF_FLOATS).multiply(word, {})", "SCALE", "COUNT"),
]  # fmt: skip
FLOATS = [
    ("if {} > unit:\n            significand", "unsafe_add(rest << 1, significand & 1)", "rest << 1"),
    ("if up > {}:", "60", "20"),
    ("uint256) << 23), {}) | sign", "INFINITY", "2 ** 32"),
    # Of a quotient no such bit counts: none lies within 2^-49 of the middle of two numbers but in it.
    ("if {}:\n        found = unsafe_add(found, 1)", "unsafe_mul(root, root) != square", "False"),
    ("return NAN if {} else ", "x > INFINITY or y > INFINITY or x == 0 or y == 0", "False"),
    ("y > INFINITY or {} or (x == 0", "(x == INFINITY and y == INFINITY)", "False"),
    ("y == INFINITY) or {}:", "(x == 0 and y == 0)", "False"),
    ("if x == INFINITY or {}:", "y == 0", "False"),
    ("if x == 0 or {}:\n        return sign\n    high", "y == INFINITY", "False"),
    ("if {}:\n        return 32767 << 16", "a & NAN > INFINITY", "False"),
    ("if {}:\n        return NAN\n    if x > SIGN", "x & NAN > INFINITY", "False"),
    ("if {}:\n        return 0\n    cut", "x > SIGN and x & NAN > LEAST", "False"),
    ("if {}:\n        cut = MOST", "x < SIGN and x > MOST", "False"),
    ("if {}:\n        return NAN\n    x: uint256 = 0\n    field", "a >= INFINITY", "False"),
    ("if {}:\n        return a", "a & NAN == 0 or a == INFINITY", "a == INFINITY"),
    ("return {}\n    x: uint256 = 0\n    y: uint256", "more if more & NAN != 0 else more & less", "more"),
    ("more & NAN > INFINITY or {}", "(less & NAN == INFINITY and more != less)", "False"),
    ("if {}:\n        return 0\n    return self._rounded(more", "x == 0", "False"),
    ("found = {}\n    return convert", "min(significand << convert(-drop, uint256), INT32)", "significand"),
    ("if {} > unit:\n            found += 1", "2 * (significand & (unit - 1)) + (found & 1)", "0"),
    ("if {}:\n        return convert(INT32", "magnitude > INFINITY", "False"),
]  # fmt: skip


def with_all(path, changes) -> Contract:
    """A contract with all changes in it."""
    text, spots = path.read_text("utf-8").replace("@pure", "@view"), []
    for number, (where, what, instead) in enumerate(changes, 1):
        where = where.replace("@pure", "@view")
        whole = where.replace("{}", what)
        assert text.count(whole) == 1, whole
        spots.append((text.index(whole) + where.index("{}"), number, what, instead))
    for at, number, what, instead in sorted(spots, reverse=True):
        text = f"{text[:at]}{chosen(number, what, instead)}{text[at + len(what) :]}"
    made = "MUTANT: immutable(uint256)\n\n\n@deploy\ndef __init__(mutant: uint256):\n    MUTANT = mutant\n"
    if "def __init__" in text:
        text = text.replace("@deploy", "MUTANT: immutable(uint256)\n\n\n@deploy")
        text = re.sub(
            r"(def __init__\(.*?),?\s*\):\n", r"\1, mutant: uint256):\n    MUTANT = mutant\n", text, flags=re.S
        )
    else:
        text = text.replace("# --- steps\n", made)
    return compile_source(text, str(path))


def chosen(number: int, what: str, instead: str) -> str:
    for word in ("if ", "self._held("):  # what stands there need not be an expression by itself
        if what.startswith(word):
            return f"{word}({instead[len(word) :]} if MUTANT == {number} else {what[len(word) :]})"
    return f"({instead} if MUTANT == {number} else {what})"


@dataclass
class Placed:
    """A node where the judge and what it asks stand, and any change of one of them can."""

    url: str
    judge: Contract
    floats: Contract
    place: Callable[[str, int], None]


@contextmanager
def placed(name: str, changes) -> Iterator[Placed]:
    chain, trees = Chain(accounts=1), tiny(lane=LANE).trees
    parts = {each: chain.deploy(compile_vyper(FOLDER / f"{each}.vy"))[0] for each in ("blocks", "floats")}
    args: tuple[Any, ...] = tensor_words(trees.dims), trees.weights_root, trees.tables_root, list(trees.stop_ids)
    args = (*args, *(each.address for each in parts.values()))
    parts[TENSOR_JUDGE] = chain.deploy(compile_vyper(FOLDER / f"{TENSOR_JUDGE}.vy"), *args)[0]
    made = with_all(FOLDER / f"{name}.vy", changes)
    own = args if name == TENSOR_JUDGE else ()
    code = chain.runtime_of(made, *own, SENTINEL, address=parts[name].address)
    with anvil() as node:
        for each in parts.values():
            ask(node, "anvil_setCode", each.address, "0x" + chain.code(each.address).hex())

        def place(which: str, number: int) -> None:
            changed = code.replace(SENTINEL.to_bytes(32, "big"), number.to_bytes(32, "big"))
            ask(node, "anvil_setCode", parts[which].address, "0x" + changed.hex())

        place(name, 0)
        yield Placed(node.url, parts[TENSOR_JUDGE], parts["floats"], place)


def test_with_a_check_or_step_of_the_judge_changed_another_verdict_is_given():
    trees, left, random = tiny(lane=LANE).trees, set(range(1, len(JUDGE) + 1)), Random(1)
    with placed(TENSOR_JUDGE, JUDGE) as at:
        asked = by_batches(at.url, at.judge)

        def kill(calls) -> None:
            for number in sorted(left):
                at.place(TENSOR_JUDGE, number)
                if asked([call for call, _ in calls]) != [said for _, said in calls]:
                    left.discard(number)
            at.place(TENSOR_JUDGE, 0)

        def watched(calls):
            said = asked(calls)
            seen.extend(zip(calls, said, strict=True))
            return said

        # of openings: what is missing, too much, or of another length
        steps = [step for target in (LAYER, TOKEN) for step in DrawnProgram(trees, target, 9, 2, random).steps(1)]
        seen: list[Any] = []
        for step in [each for each in steps if sort_of(each) == "kept"][:1] + random.sample(steps, 6):
            calls = [calldata(at.judge, step.words(wrong)) for wrong, _ in spoilt(step.opened()[1])]
            seen += zip(calls, asked(calls), strict=True)
        kill(seen)
        for seed in range(20):
            tally, seen = StepTally(), []
            compare_at_judge(trees, watched, at.judge, Random(seed), 200, tally, each=2)
            assert not tally.differing, tally.differing[:3]
            for first in range(0, len(seen), 250):
                kill(seen[first : first + 250])
            if not left:
                return
    assert [JUDGE[number - 1] for number in left] == []


EDGES = [0.0, 1e-45, 1.17e-38, 0.3, 1.0, 88.5, 40000.0, 3.4e38, np.inf, np.nan]
EDGE_WORDS = [word_of(np.float32(edge)) | sign for edge in EDGES for sign in (0, 1 << 31)]
#: Its root lies above the middle of two numbers, so near that only the rest says so.
NEAR_TIE = 0x403302BE


def _of(function, *words: int) -> int:
    return int(function(*(as_objects([word]) for word in words))[0].word)


def expected_words() -> list[tuple[str, tuple[int, ...], int]]:
    """Calls of the contract for fp32 steps, and what the definition gives."""
    random, one = Random(3), word_of(np.float32(1))
    some = (drawn_words(random, 60) & 0xFFFFFFFF).tolist()
    pairs = [(a, b) for a in EDGE_WORDS for b in EDGE_WORDS] + list(zip(some, reversed(some), strict=True))
    found: list[tuple[str, tuple[int, ...], int]] = []
    for a, b in pairs:
        found.append(("add", (a, b), blocks.fp32_add(a, b)))
        found.append(("multiply", (a, b), blocks.fp32_multiply(a, b)))
        found.append(("quotient", (a, b), narrowed(blocks.fp32_divide(a, b))))
        found.append(("silu", (a, b), narrowed(_of(tensor_steps.gated_silu, a, b))))
        found.append(("power", (a, b), _of(tensor_steps.exponential, (Fp32(a) - Fp32(b)).word)))
    for a in [*EDGE_WORDS, *some, NEAR_TIE]:
        factor = Fp32(one) / (Fp32(a) / Fp32(one) + Fp32(0)).sqrt()
        found += [("root", (a, one, 0), factor.word), ("narrow", (a,), narrowed(a)), ("fixed", (a,), fixed(a))]
    # half a last place is added to an even number and to an odd one, and something far below to a large one
    for a, b in ((0x3F800000, 0x33800000), (0x3F800001, 0x33800000), (0x4B800000, 0x33800001)):
        found.append(("add", (a, b), blocks.fp32_add(a, b)))
    return found


def test_with_a_step_of_fp32_changed_another_word_is_given():
    calls = expected_words()
    with placed("floats", FLOATS) as at:

        def asked() -> list[int]:
            entries = {name: at.floats.entry(name) for name, _, _ in calls}
            about = [
                {"to": at.floats.address, "data": "0x" + call_data(entries[name], args).hex()}
                for name, args, _ in calls
            ]
            request = [
                {"jsonrpc": "2.0", "id": number, "method": "eth_call", "params": [each, "latest"]}
                for number, each in enumerate(about)
            ]
            answers = sorted(forward(at.url, request), key=lambda each: each["id"])
            found = [int(each["result"], 16) if "result" in each else -1 for each in answers]
            return [word - 2**256 if word >= 2**255 else word for word in found]

        assert [each for each, word in zip(calls, asked(), strict=True) if word != each[2]] == []
        missed = []
        for number, change in enumerate(FLOATS, 1):
            at.place("floats", number)
            if asked() == [word for _, _, word in calls]:
                missed.append(change)
        assert missed == []
