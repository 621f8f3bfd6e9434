# ruff: noqa: N802 (a function is named after its claim)
# fmt: off
# (Readings and computed numbers are tables, set by hand.)
"""Claims about latency: L01 to L08.

Latencies are kept apart by what ends them: the first token, the answer, the provisional answer, the
proof, the final answer. A mean over unlike things is shown as such. The base path is the stated
provisional finality, 0.5 s.

Readings of kind *simulated* come from an hour of the Azure conversation trace on a 70B model (see
``otr_paper.simulation``): two machines of two H100s, 1 % of the answers proved in 20 minutes each,
and a window of an hour for OTR.
"""

from __future__ import annotations

import math

from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import Evaluation, Reading, Rule, at_least, at_most, solved

#: Published rows behind every simulated reading: the trace, and where the serving law was fitted.
SIMULATED = ("trace.azure23_conv.requests", "nim.llama33_70b.1000_1000.c50.itl")


def weighted_latency(base_s: float, proof_s: float, rho: float) -> float:
    """Mean latency when a share ``rho`` of the users waits for a proof instead of the base path, s.

    ``(1 - rho) base_s + rho proof_s``. That the checked share waits for nothing but the proof is
    the reading kindest to the claim.
    """
    return (1.0 - rho) * base_s + rho * proof_s


def slowest_proof(base_s: float, mean_s: float, rho: float) -> float:
    """Longest proof at which ``weighted_latency`` is still ``mean_s``, s."""
    closed = (mean_s - (1.0 - rho) * base_s) / rho
    return solved(closed, lambda proof_s: weighted_latency(base_s, proof_s, rho) - mean_s, 0.0, 1e7)


def largest_rho(base_s: float, mean_s: float, proof_s: float) -> float:
    """Largest checked share at which ``weighted_latency`` is still ``mean_s``."""
    closed = (mean_s - base_s) / (proof_s - base_s)
    return solved(closed, lambda rho: weighted_latency(base_s, proof_s, rho) - mean_s, 0.0, 1.0)


def L01_provisional_finality(grounds: Grounds) -> Evaluation:
    """L01: provisional finality below 500 ms. What of a 70B answer fits into that time?"""
    published, simulation = grounds.published, grounds.simulation
    stated_s = published.number("otr.provisional", "s")
    tokens = published.number("anchor.vllm_ci.output", "tok")
    answer_70b, answer_8b = published.number("cc43", "s"), published.number("cc44", "s")
    short, long = published.number("cc52.ttft", "s"), published.number("cc47.ttft", "s")
    slow_tee, fast_tee = (1.0 + published.number(row, "1") for row in ("cc27", "cc25"))
    # at 8 bit; at 16 bit it does not fit one card
    bytes_70b = published.number("model.llama_70b.params", "params")
    roofline = published.number("hw.h100_bandwidth", "B/s") / bytes_70b
    attested, first = (simulation.latency_s("OTR", kind, "p50") for kind in ("provisional", "first token"))
    promised = attested + published.number("hw.base_flashblock", "s")
    shares = simulation.payload["otr"]
    step = answer_70b / tokens
    most = solved(stated_s / step, lambda count: count * step - stated_s, 0.0, 1e6)

    rule = Rule("s", lambda seconds: seconds < stated_s)
    plain = f"{tokens:.0f} tokens, 4 H100, no TEE"
    readings = (
        rule.cited("whole answer, 70B", plain, answer_70b, "cc43"),
        rule.cited("whole answer, 8B", plain.replace("4 H100", "1 H100"), answer_8b, "cc44"),
        rule.cited("first token, 70B, short prompt", "500 in, 2 H100 fp8, one user, no TEE", short, "cc52.ttft"),
        rule.cited("first token, 70B, long prompt", "5000 in, 2 H100 fp8, one user, no TEE", long, "cc47.ttft"),
        rule.recomputed("first token, long prompt, TEE as for 7B", "with the smaller published TEE slow-down",
                        long * fast_tee, "cc47.ttft", "cc25"),
        rule.recomputed("first token, long prompt, TEE as for 30B", "with the larger published TEE slow-down",
                        long * slow_tee, "cc47.ttft", "cc27"),
        rule.recomputed(
            "short answer, 70B", f"at most {math.floor(most)} tokens, 4 H100, no TEE", math.floor(most) * step, "cc43"
        ),
        rule.cited("inclusion in an L1 block", "the answer counts once it is in a block",
                   published.number("hw.ethereum_slot", "s"), "hw.ethereum_slot"),
        rule.simulated("attested answer, simulated", "median over the trace: written in a TEE, signed and checked",
                       attested, *SIMULATED),
        rule.simulated("first token, simulated", "median over the trace, in a TEE", first, *SIMULATED),
        rule.simulated("promise of inclusion on an L2, simulated", "median attested answer and one preconfirmation",
                       promised, *SIMULATED, "hw.base_flashblock"),
    )
    return Evaluation(
        {"answer_70b_s": answer_70b, "first_token_500_in_s": short, "first_token_5000_in_s": long,
         "most_tokens_70b": most, "roofline_tokens_one_h100": roofline * stated_s,
         "simulated_attested_p50_s": attested, "simulated_first_token_p50_s": first,
         "simulated_attested_in_time": shares["provisional_below_500ms"],
         "simulated_first_token_in_time": shares["first_token_below_500ms"]},
        readings,
        ("most_tokens_70b", most),
    )


def L02_default_rho(published: Published) -> Evaluation:
    """L02: the default spot-check rate is 1 %; a review of the paper gives 'below 1 %'."""
    stated, bound = published.number("otr.rho", "1"), published.number("otr.rho_review", "1")
    rounds_up_from = 0.5 * stated
    rule, own = Rule("1", lambda rate: rate < bound), ("otr.rho", "otr.rho_review")
    readings = (rule.cited("exactly 1 %", "both sources are exact", stated, *own),
                rule.recomputed("1 % by rounding", "the rate is below 1 % and prints as 1 %", rounds_up_from, *own))
    return Evaluation(
        {"stated_rho": stated, "least_rho_printed_as_1pct": rounds_up_from},
        readings,
        ("rho", bound),
    )


def L03_weighted_latency(grounds: Grounds) -> Evaluation:
    """L03: weighted mean latency 0.8 s with 1 % ZK spot checks."""
    published, simulation = grounds.published, grounds.simulation
    stated, rho = published.number("otr.latency_weighted", "s"), published.number("otr.rho", "1")
    base, proof = published.number("otr.provisional", "s"), published.number("zkml.latency_7b", "s")
    longest, rate = slowest_proof(base, stated, rho), largest_rho(base, stated, proof)
    waited = float(simulation.payload["otr"]["waited_mean_s"])
    attested, first = (simulation.latency_s("OTR", kind) for kind in ("provisional", "first token"))

    rule, waits = Rule("s", at_most(stated)), Rule("s", lambda seconds: seconds <= stated)
    own = ("otr.provisional", "otr.rho", "zkml.latency_7b")

    def mean_s(proof_s: float, share: float = rho) -> float:
        return weighted_latency(base, proof_s, share)

    def with_prover(name: str, assumption: str, row: str) -> Reading:
        mean = mean_s(published.number(row, "s"))
        return rule.recomputed(name, assumption, mean, row, replaces="ZKML takes over 20 min")

    readings = (
        rule.recomputed("plain mean", "1 % of the users wait 20 min for the proof", mean_s(proof), *own),
        rule.recomputed("70B at one hour", "as plain, with the least that 'hours' can mean", mean_s(3600.0), *own),
        rule.recomputed("proofs off the user's path",
                        "nobody waits for a proof; 0.3 s are something the text does not name",
                        base + (stated - base), *own),
        rule.recomputed("part of the model proved",
                        "the checked proof is partial and done in the slowest time that fits", mean_s(longest), *own),
        rule.recomputed("lower rate", "the largest rate that fits", mean_s(proof, rate), *own, replaces="rho = 1 %"),
        rule.recomputed(
            "median", "0.8 s is a median: it is then the base path, and says nothing of the checks", base, *own
        ),
        with_prover("fastest 7B prover of 2024", "zkLLM on one A100", "zk.zkllm.7b.prove"),
        with_prover("prover of 2026, amortised", "FlashProve, share of a batch", "zk.flashprove.400b.prove"),
        with_prover("prover of 2026, as waited for", "FlashProve, whole batch of 24", "zk.flashprove.400b.batch"),
        waits.simulated("simulated, proofs waited for",
                        "mean over the trace: attested answers, and 1 % with blocks, beacon, provers and their line",
                        waited, *SIMULATED),
        waits.simulated("simulated, nobody waits", "mean over the trace of the attested answer", attested, *SIMULATED),
        waits.simulated("simulated, first token", "mean over the trace; nobody waits for a proof, nor for the answer",
                        first, *SIMULATED),
    )
    return Evaluation(
        {"plain_mean_s": mean_s(proof), "plain_over_stated_ratio": mean_s(proof) / stated, "slowest_proof_s": longest,
         "slowest_proof_base_300ms_s": slowest_proof(0.3, stated, rho), "largest_rho": rate,
         "unnamed_path_s": stated - base, "simulated_waited_mean_s": waited, "simulated_attested_mean_s": attested,
         "simulated_first_token_mean_s": first},
        readings,
        ("slowest_proof_s", longest),
    )


def L04_zkml_7b_latency(published: Published) -> Evaluation:
    """L04: ZKML takes over 20 minutes for a 7B inference. With which prover?"""
    stated = published.number("zkml.latency_7b", "s")
    zkllm = published.number("zk.zkllm.7b.prove", "s")
    gptj, llama = published.number("zk.zktorch.gptj_6b.prove", "s"), published.number("zk.zktorch.llama2_7b.prove", "s")
    per_token = published.number("zk.zkpytorch.llama3_8b.prove", "s")
    core_s = published.number("zk.project.extrapolated_7b_token.prove", "core-s")
    threads = 64.0  # of the ZKTorch rows
    fewest = solved(stated / per_token, lambda tokens: tokens * per_token - stated, 0.0, 1e6)
    most = solved(threads * llama / stated, lambda count: threads * llama / count - stated, 1.0, 1e9)

    rule = Rule("s", lambda seconds: seconds > stated)
    readings = (
        rule.cited(
            "any prover", "fastest published for 7B: zkLLM, 2048 positions, one A100", zkllm, "zk.zkllm.7b.prove"
        ),
        rule.cited("ZKTorch, GPT-J 6B", "2 tokens, 64 CPU threads", gptj, "zk.zktorch.gptj_6b.prove"),
        rule.cited("ZKTorch, LLaMA-2-7B", "1 token, 64 CPU threads", llama, "zk.zktorch.llama2_7b.prove"),
        rule.cited(
            "zkPyTorch, Llama-3-8B, one token", "answer of one token", per_token, "zk.zkpytorch.llama3_8b.prove"
        ),
        rule.recomputed("zkPyTorch, Llama-3-8B, 100 tokens", "time grows with the tokens", 100 * per_token,
                        "zk.zkpytorch.llama3_8b.prove"),
        rule.recomputed("ezkl, extrapolated", "one token, 64 perfectly used cores", core_s / threads,
                        "zk.project.extrapolated_7b_token.prove"),
    )
    return Evaluation(
        {"fastest_published_s": zkllm, "zktorch_llama2_7b_s": llama, "zktorch_gptj_6b_s": gptj,
         "fewest_tokens_zkpytorch": fewest, "most_threads_zktorch": most},
        readings,
        ("most_threads_zktorch", most),
    )


def scaled(seconds: float, params: float, to_params: float, exponent: float) -> float:
    """Proving time carried from one model size to another by a power law, s."""
    return float(seconds * (to_params / params) ** exponent)


def L05_zkml_70b_latency(published: Published) -> Evaluation:
    """L05: ZKML takes hours for a 70B inference. Published 7B and 13B times carried to 70B."""
    hours = 2 * 3600.0  # the least that a plural can mean
    small, large, target = (published.number(f"model.llama_{size}.params", "params") for size in ("7b", "13b", "70b"))
    t7, t13 = published.number("zk.zkllm.7b.prove", "s"), published.number("zk.zkllm.13b.prove", "s")
    torch7 = published.number("zk.zktorch.llama2_7b.prove", "s")
    own = math.log(t13 / t7) / math.log(large / small)
    least = solved(
        math.log(hours / t13) / math.log(target / large),
        lambda exponent: scaled(t13, large, target, exponent) - hours,
        0.0,
        5.0,
    )
    by_size, by_growth = (scaled(t13, large, target, exponent) for exponent in (1.0, own))
    linear, log_ratio = torch7 * target / small, math.log(target) / math.log(small)
    core_s = published.number("zk.project.extrapolated_70b_token.prove", "core-s")
    batch = published.number("zk.flashprove.400b.batch", "s")

    rule = Rule("s", lambda seconds: seconds >= hours)
    readings = (
        rule.recomputed("zkLLM, its own growth", "exponent between its 7B and 13B", by_growth, "zk.zkllm.13b.prove"),
        rule.recomputed("zkLLM, linear", "time grows with the parameters", by_size, "zk.zkllm.13b.prove"),
        rule.recomputed("ZKTorch, linear", "64 CPU threads, 1 token", linear, "zk.zktorch.llama2_7b.prove"),
        rule.recomputed("ZKTorch, N log N", "as the abstract says ZKML grows", linear * log_ratio,
                        "zk.zktorch.llama2_7b.prove", "zkml.scaling"),
        rule.recomputed("ezkl, extrapolated", "this project's unit, one token, 64 perfectly used cores",
                        core_s / 64.0, "zk.project.extrapolated_70b_token.prove"),
        rule.cited("FlashProve, 400B", "whole batch of 24 on one H100, measured, one token each", batch,
                   "zk.flashprove.400b.batch"),
    )
    return Evaluation(
        {"zkllm_growth_exponent": own, "zkllm_70b_linear_s": by_size, "zktorch_70b_linear_s": linear,
         "least_exponent_zkllm": least},
        readings,
        ("least_exponent_zkllm", least),
    )


def L06_speedup_over_zkml(grounds: Grounds) -> Evaluation:
    """L06: 1400 times faster than ZKML."""
    published, simulation = grounds.published, grounds.simulation
    stated, zkml = published.number("otr.speedup_zkml", "ratio"), published.number("zkml.latency_7b", "s")
    mean, base = published.number("otr.latency_weighted", "s"), published.number("otr.provisional", "s")
    gptj, zkllm = published.number("zk.zktorch.gptj_6b.prove", "s"), published.number("zk.zkllm.7b.prove", "s")
    slowest = solved(zkml / stated, lambda otr_s: zkml / otr_s - stated, 1e-3, 100.0)
    proof = simulation.latency_s("ZKML", "proof")
    over_attested, over_first = (proof / simulation.latency_s("OTR", kind) for kind in ("provisional", "first token"))
    final_ratio = simulation.latency_s("ZKML", "final") / simulation.latency_s("OTR", "final")

    equal = Rule("ratio", lambda ratio: ratio == stated)
    above, reached = Rule("ratio", at_least(stated)), Rule("ratio", lambda ratio: ratio >= stated)
    own = ("zkml.latency_7b", "otr.latency_weighted", "otr.provisional")
    readings = (
        equal.recomputed(
            "stated numbers, as an equality", "20 min over 0.8 s, to the hundred", 100 * round(zkml / mean / 100), *own
        ),
        above.recomputed("at least, over 0.8 s", "1400 is a lower bound", zkml / mean, *own),
        above.recomputed("at least, over 0.5 s", "1400 is a lower bound", zkml / base, *own),
        above.recomputed(
            "exactly 1400", "OTR takes the solved time", zkml / slowest, *own, replaces="weighted mean 0.8 s"
        ),
        above.recomputed(
            "ZKTorch GPT-J over 0.8 s", "a 6B model stands for 7B", gptj / mean, "zk.zktorch.gptj_6b.prove"
        ),
        above.recomputed("zkLLM 7B over 0.8 s", "fastest published 7B proof", zkllm / mean, "zk.zkllm.7b.prove"),
        reached.simulated("simulated, proof over attested answer",
                           "means over the trace; ZKML with 20-minute proofs", over_attested, *SIMULATED),
        reached.simulated("simulated, proof over first token", "means over the trace: what ends is not the same",
                           over_first, *SIMULATED),
        reached.simulated(
            "simulated, final over final", "ZKML's proof on chain over OTR's window of an hour", final_ratio, *SIMULATED
        ),
    )
    return Evaluation(
        {"stated_inputs_ratio": zkml / mean, "over_provisional_ratio": zkml / base, "otr_for_1400_s": slowest,
         "zkml_for_1400_s": stated * mean, "zkllm_7b_ratio": zkllm / mean,
         "simulated_over_attested_ratio": over_attested, "simulated_over_first_token_ratio": over_first,
         "simulated_final_ratio": final_ratio},
        readings,
        ("otr_for_1400_s", slowest),
    )


def L07_opml_window(published: Published) -> Evaluation:
    """L07: opML waits 7 days. Its own documents fix no window; 7 days is the custom of optimistic
    rollups."""
    stated = published.number("opml.window", "s")
    op, bold = published.number("op.window", "s"), published.number("bold.period", "s")
    rule = Rule("s", lambda seconds: seconds == stated)
    readings = (rule.cited("custom of optimistic rollups", "OP's withdrawal delay", op, "opml.window", "op.window"),
                rule.cited("BoLD, undisputed", "one challenge period", bold, "bold.period"),
                rule.recomputed("BoLD, disputed", "two challenge periods", 2 * bold, "bold.period"))
    return Evaluation(
        {"window_s": stated, "bold_period_s": bold},
        readings,
    )


def L08_speedup_over_opml(grounds: Grounds) -> Evaluation:
    """L08: 99 % faster than opML's 7 days."""
    published, simulation = grounds.published, grounds.simulation
    stated, window = published.number("otr.speedup_opml", "1"), published.number("opml.window", "s")
    mean = published.number("otr.latency_weighted", "s")
    longest = solved((1.0 - stated) * window, lambda otr_s: 1.0 - otr_s / window - stated, 0.0, window)
    final, provisional = (
        1.0 - simulation.latency_s("OTR", kind) / simulation.latency_s("opML", kind)
        for kind in ("final", "provisional")
    )

    rule = Rule("1", lambda reduction: reduction >= stated)
    just, own = Rule("1", lambda reduction: reduction >= stated - 1e-12), ("otr.latency_weighted", "opml.window")
    readings = (
        rule.recomputed("provisional against final", "0.8 s against 7 days", 1.0 - mean / window, *own),
        just.recomputed(
            "final against final", "OTR's own final window is the longest that fits", 1.0 - longest / window, *own
        ),
        rule.recomputed("provisional against provisional", "opML too answers at once, unconfirmed", 0.0),
        rule.simulated("final against final, simulated",
                       "means over the trace; OTR's window an hour, one answer in 10,000 disputed", final,
                       *SIMULATED),
        rule.simulated("provisional against provisional, simulated",
                       "means over the trace: an attested answer, and one with its commitment in a block",
                       provisional, *SIMULATED),
    )
    return Evaluation(
        {"reduction": 1.0 - mean / window, "ratio": window / mean, "longest_final_window_s": longest,
         "simulated_final_reduction": final, "simulated_provisional_reduction": provisional},
        readings,
    )
