"""What ``otr record`` measures and collects on a machine, with an H100 or without one: one result
for the notebooks."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otr_core.encoding import json_value
from otr_core.errors import HardwareError, ParameterError
from otr_core.lane.sampling import Decoding
from otr_node.generate import generate, prompt_tokens
from otr_node.guest import collect
from otr_node.hardware import Hardware
from otr_node.model import Model
from otr_paper.benches.turns import check_counts

FORMAT = "otr-record/1"


@dataclass(frozen=True)
class RecordPlan:
    """What is recorded.

    Attributes:
        prompts: questions. Each is answered ``repeats`` times, every time once without the trace
            and once with it.
        max_tokens: most tokens of an answer, at least 2.
        nonce: 32 bytes that the GPU's report and the TDX quote answer. first_half: 32 bytes that
            the quote signs before them, where served keys would stand.
        trace_seed: 32 secret bytes, from which the traces' salts derive.

    Raises:
        ParameterError: no prompt, no repeat, or answers too short for a rate.
    """

    prompts: Sequence[str]
    max_tokens: int
    repeats: int
    nonce: bytes
    first_half: bytes
    trace_seed: bytes

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ParameterError("prompts", list(self.prompts), "at least one")
        check_counts(self, "repeats")
        if self.max_tokens < 2:
            raise ParameterError("max_tokens", self.max_tokens, "at least 2: a rate needs two tokens")


def record(
    model: Model, plan: RecordPlan, hardware: Hardware, *, report: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Run ``plan`` on ``model`` and collect evidence.

    Returns:
        JSON values, for a result file with a card. Rates are medians over prompts and repeats: time
        to the first token
        (s) and tokens per second of decoding, without the trace ("plain") and with it ("traced").
            What the hardware
        cannot give is None, and "absent" holds the reason.
    """
    absent: dict[str, str] = {}

    def ask(name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except HardwareError as error:
            absent[name] = str(error)
            return None

    decoding = Decoding(plan.max_tokens)
    # a first answer also loads kernels and fills caches: not measured
    asked = [prompt_tokens(model, prompt, plan.max_tokens) for prompt in plan.prompts]
    generate(model, asked[0], Decoding(2))
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "traced": []}
    power: list[float] = []
    answers = []
    for number, ids in enumerate(asked):
        report(f"prompt {number + 1} of {len(asked)} …")
        for _ in range(plan.repeats):
            for kind, seed in (("plain", None), ("traced", plan.trace_seed)):
                times = [hardware.clock()]

                def tick(_: int, times: list[float] = times) -> None:
                    times.append(hardware.clock())

                answer = generate(model, ids, decoding, trace_seed=seed, on_token=tick)
                runs[kind].append(_rates(times))
                if "power_w" not in absent and (watts := ask("power_w", hardware.power_w)) is not None:
                    power.append(watts)
        answers.append(
            {
                "prompt_tokens": len(answer.prompt_ids),
                "token_ids": list(answer.token_ids),
                "trace_root": answer.committed.root.hex(),
                "trace_shape": json_value(answer.committed.shape),
            }
        )
    collected = collect(hardware, plan.nonce, first_half=plan.first_half)
    return {
        "format": FORMAT,
        "model": model.manifest.to_json(),
        "configuration": model.configuration(),
        "device": ask("device", hardware.facts),
        "power_w": statistics.median(power) if power else None,
        "plain": _medians(runs["plain"]),
        "traced": _medians(runs["traced"]),
        "answers": answers,
        "nonce": plan.nonce.hex(),
        "evidence": collected.evidence,
        "absent": {**absent, **collected.absent},
    }


def _rates(times: Sequence[float]) -> dict[str, float]:
    """Time to the first token (s) and decoding rate (tokens/s; 0 for an answer of one token).

    Args:
        times: of the start, then of each token (s).
    """
    decoding = times[-1] - times[1]
    rate = (len(times) - 2) / decoding if decoding > 0 else 0.0
    return {"first_token_s": times[1] - times[0], "tokens_per_s": rate}


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in ("first_token_s", "tokens_per_s")}
