"""Random blocks at the ends of their range: the definition against its replays and the contract."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPConnection
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from otr_core.lane.blocks import BF16_BLOCK, FLOOR, FP32, block
from otr_node.chain.block_judge import SOURCE, BlockJudge, packed_words
from otr_node.chain.evm import Chain, compile_vyper, signature_hash
from otr_node.chain.interface import AnyChain
from otr_node.integers import block_kernels, block_twins
from otr_paper.benches.blocks import RecordedBlock

_TERMS = BF16_BLOCK.terms
SPECIAL = (0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFFF)
"""Infinities and NaNs that blocks are sprinkled with."""


class RandomBlock(NamedTuple):
    """Words of 16 pairs and an accumulator."""

    a: list[int]
    b: list[int]
    c: int


Judge = Callable[[RandomBlock], int]
"""What gives the result of a block."""


def extreme_blocks(count: int, seed: int) -> Iterator[RandomBlock]:
    """Blocks with exponents from the whole range: sums that are too large, subnormal, nearly 0, or
    laid by the grid's floor; zeros of both signs, infinities, NaNs and subnormal factors."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        spread = int(random.choice([0, 2, 12, 30, 127]))
        middle = int(random.choice([-260, -160, -140, -126, -20, 0, 100, 126, 128, 250]))  # of the products' exponents
        left = np.clip(random.integers(-40, 41) + middle // 2, -127, 127)
        a, b = (_factors(random, centre, spread) for centre in (int(left), int(np.clip(middle - left, -127, 127))))
        if random.random() < 0.3:  # what is summed cancels, or nearly
            a[8:], b[8:] = a[:8] ^ 0x8000, b[:8]
            b[8:] ^= random.integers(0, 2, 8) * (random.random() < 0.5)
        if random.random() < 0.1:
            where = random.integers(0, _TERMS, int(random.integers(1, 4)))
            (a if random.random() < 0.5 else b)[where] = random.choice(SPECIAL, len(where))
        field = int(np.clip(middle + random.integers(-spread - 3, spread + 4) + 127, 0, 254))
        c = int(random.choice([0, FP32.sign, field << 23 | int(random.integers(2**23))], p=[0.1, 0.05, 0.85]))
        c |= int(random.integers(2)) * FP32.sign
        if random.random() < 0.03:
            c = int(random.choice([word << 16 for word in SPECIAL]))
        yield RandomBlock(a.tolist(), b.tolist(), c)


def _factors(random: np.random.Generator, centre: int, spread: int) -> np.ndarray:
    """Bf16 words whose exponents lie about a centre, some of them 0."""
    fields = np.clip(random.integers(centre - spread, centre + spread + 1, _TERMS) + 127, 0, 254)
    words = fields << 7 | random.integers(0, 128, _TERMS)
    words[random.random(_TERMS) < 0.1] = 0
    return words | random.integers(0, 2, _TERMS) << 15


def replays() -> dict[str, Judge]:
    """The compiled replay and its twin, as judges of single blocks."""

    def judge(loops: Any) -> Judge:
        def result(one: RandomBlock) -> int:
            x, w = (np.array([words], np.uint16) for words in one[:2])
            out = np.array([[one.c]], np.uint32)
            loops.project(x, w, out)
            return int(out[0, 0])

        return result

    return {"kernel": judge(block_kernels), "twin": judge(block_twins)}


def contract() -> Judge:
    """The contract on a chain of its own, as a judge of single blocks."""
    judge = BlockJudge(Chain())
    return lambda one: judge.result(*one)


def judge_recordings(records: Sequence[RecordedBlock], transactions: int) -> dict[str, Any]:
    """Put what a chip made of bf16 blocks before the contract.

    Args:
        transactions: of the first so many, the gas of a whole transaction, its base of 21,000 and
            its calldata included.

    Returns:
        JSON values. right: recorded results that the contract holds for right. wrong: of the same
        blocks, the next word up that it holds for wrong. gas: least, median and most of transactions.
    """
    judge = BlockJudge(Chain())
    gas = [judge.judge(r.a, r.b, r.c, r.result).gas for r in records[:transactions]]
    return {
        "blocks": len(records),
        "right": sum(judge.right(r.a, r.b, r.c, r.result) for r in records),
        "wrong": sum(not judge.right(r.a, r.b, r.c, r.result + 1) for r in records),
        "transactions": len(gas),
        "gas": {"least": min(gas), "median": int(median(gas)), "most": max(gas)},
        "deployment_gas": judge.deployment.gas,
        "runtime_bytes": judge.contract.runtime_bytes,
    }


def compare_blocks(count: int, judges: Mapping[str, Judge], seed: int = 1) -> dict[str, Any]:
    """Compare judges with the definition on ``count`` extreme blocks.

    Returns:
        JSON values. differing: by judge, blocks of which it gave another word. results: how many
        were each kind of number, which says what was compared.
    """
    differing, results = dict.fromkeys(judges, 0), dict.fromkeys(("zero", "subnormal", "normal", "infinite", "nan"), 0)
    floored = 0
    for one in extreme_blocks(count, seed):
        expected = block(BF16_BLOCK, *one)
        for name, judge in judges.items():
            differing[name] += judge(one) != expected
        results[_kind(expected)] += 1
        floored += _below_floor(one)
    return {"blocks": count, "differing": differing, "results": results, "laid_by_floor": floored}


def _kind(word: int) -> str:
    magnitude = word & FP32.nan
    if magnitude >= FP32.infinity:
        return "infinite" if magnitude == FP32.infinity else "nan"
    return "zero" if magnitude == 0 else "normal" if magnitude >> FP32.fraction_bits else "subnormal"


def _below_floor(one: RandomBlock) -> bool:
    """Whether the grid is laid by its floor: every term that is not 0 is smaller, and one is there."""
    pairs = [(x >> 7 & 255, y >> 7 & 255) for x, y in zip(one.a, one.b, strict=True) if x & 0x7FFF and y & 0x7FFF]
    exponents = [max(x, 1) + max(y, 1) - 2 * FP32.bias for x, y in pairs]
    return bool(exponents) and max(exponents) < FLOOR and one.c & FP32.nan == 0


Many = Callable[[Sequence[RandomBlock]], list[int]]
"""What gives the results of many blocks."""


def contract_at(node: str, chain: AnyChain) -> Many:
    """The contract on a node, asked for many blocks in one request."""
    contract = chain.deploy(compile_vyper(SOURCE))[0]
    start, door = signature_hash(contract.entry("result"))[:4], HTTPConnection(urlsplit(node).netloc, timeout=300)

    def ask(blocks: Sequence[RandomBlock]) -> list[int]:
        words = [(packed_words(one.a), packed_words(one.b), one.c) for one in blocks]
        data = [start + b"".join(word.to_bytes(32, "big") for word in each) for each in words]
        calls = [[{"to": contract.address, "data": "0x" + each.hex()}, "latest"] for each in data]
        request = [{"jsonrpc": "2.0", "id": at, "method": "eth_call", "params": call} for at, call in enumerate(calls)]
        door.request("POST", "/", json.dumps(request), {"content-type": "application/json"})
        answers = sorted(json.loads(door.getresponse().read()), key=lambda each: each["id"])
        return [int(each["result"], 16) for each in answers]

    return ask


def compare_many(count: int, judges: Mapping[str, Many], seed: int) -> dict[str, Any]:
    """``compare_blocks`` for judges that take many blocks at once."""
    blocks = list(extreme_blocks(count, seed))
    expected = [block(BF16_BLOCK, *one) for one in blocks]
    results = dict.fromkeys(("zero", "subnormal", "normal", "infinite", "nan"), 0)
    for word in expected:
        results[_kind(word)] += 1
    differing = {
        name: sum(found != word for found, word in zip(judge(blocks), expected, strict=True))
        for name, judge in judges.items()
    }
    return {
        "blocks": count,
        "differing": differing,
        "results": results,
        "laid_by_floor": sum(map(_below_floor, blocks)),
    }


def summed_up(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of several comparisons, one by one."""
    total: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if isinstance(value, Mapping):
                total[name] = summed_up([total.get(name, {}), value])
            else:
                total[name] = total.get(name, 0) + value
    return total
