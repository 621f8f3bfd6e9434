# ruff: noqa: N802 (a function is named after its claim)
# fmt: off
"""Claims about latency: L01 to L08.

Latencies are kept apart by what ends them (first token, answer, provisional answer, proof, final answer); a mean over
unlike things is shown as such. The base path is the stated provisional finality, 0.5 s.

Readings of kind *simulated* are an hour of the Azure conversation trace on a 70B model, stored with its card (see
``otr_paper.simulation``): two machines of two H100s, 1 % of the answers proved in 20 minutes, OTR's window an
hour.
"""


from __future__ import annotations

import math

from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import Assumption, Evaluation, Reading, judged, solved

#: Published rows behind every simulated reading: the trace, and where the serving law was fitted.
SIMULATED = ("trace.azure23_conv.requests", "nim.llama33_70b.1000_1000.c50.itl")


def weighted_latency(base_s: float, proof_s: float, rho: float) -> float:
    """Mean latency when a share ``rho`` of the users waits for a proof instead of the base path, s.

    ``(1 - rho) base_s + rho proof_s``. That the checked share waits for nothing but the proof is the reading kindest to
    the claim.
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
    published = grounds.published
    stated_s = published.number("otr.provisional", "s")
    tokens = published.number("anchor.vllm_ci.output", "tok")
    answer_70b, answer_8b = published.number("cc43", "s"), published.number("cc44", "s")
    short, ttft = published.number("cc52.ttft", "s"), published.number("cc47.ttft", "s")
    slow_cc = 1.0 + published.number("cc27", "1")
    fast_cc = 1.0 + published.number("cc25", "1")
    bytes_70b = published.number("model.llama_70b.params", "params")  # at 8 bit; at 16 bit it does not fit one card
    roofline = published.number("hw.h100_bandwidth", "B/s") / bytes_70b
    slot = published.number("hw.ethereum_slot", "s")
    attested, first = (grounds.simulation.latency_s("OTR", kind, "p50") for kind in ("provisional", "first token"))
    promise, shares = published.number("hw.base_flashblock", "s"), grounds.simulation.payload["otr"]
    step = answer_70b / tokens
    most = solved(stated_s / step, lambda count: count * step - stated_s, 0.0, 1e6)
    readings = (
        Reading("whole answer, 70B", f"{tokens:.0f} tokens, 4 H100, no TEE", answer_70b, "s", "cited",
                answer_70b < stated_s, ("cc43",)),
        Reading("whole answer, 8B", f"{tokens:.0f} tokens, 1 H100, no TEE", answer_8b, "s", "cited",
                answer_8b < stated_s, ("cc44",)),
        Reading("first token, 70B, short prompt", "500 in, 2 H100 fp8, one user, no TEE", short, "s", "cited",
                short < stated_s, ("cc52.ttft",)),
        Reading("first token, 70B, long prompt", "5000 in, 2 H100 fp8, one user, no TEE", ttft, "s", "cited",
                ttft < stated_s, ("cc47.ttft",)),
        Reading("first token, long prompt, TEE as for 7B", "with the smaller published TEE slow-down", ttft * fast_cc,
                "s", "recomputed", ttft * fast_cc < stated_s, ("cc47.ttft", "cc25")),
        Reading("first token, long prompt, TEE as for 30B", "with the larger published TEE slow-down", ttft * slow_cc,
                "s", "recomputed", ttft * slow_cc < stated_s, ("cc47.ttft", "cc27")),
        Reading("short answer, 70B", f"at most {math.floor(most)} tokens, 4 H100, no TEE", math.floor(most) * step, "s",
                "recomputed", math.floor(most) * step < stated_s, ("cc43",)),
        Reading("inclusion in an L1 block", "the answer counts once it is in a block", slot, "s", "cited",
                slot < stated_s, ("hw.ethereum_slot",)),
        Reading("attested answer, simulated", "median over the trace: written in a TEE, signed and checked", attested,
                "s", "simulated", attested < stated_s, SIMULATED),
        Reading("first token, simulated", "median over the trace, in a TEE", first, "s", "simulated", first < stated_s,
                SIMULATED),
        Reading("promise of inclusion on an L2, simulated", "median attested answer and one preconfirmation",
                attested + promise, "s", "simulated", attested + promise < stated_s,
                (*SIMULATED, "hw.base_flashblock")),
    )
    return judged(
        "L01",
        {"answer_70b_s": answer_70b, "first_token_500_in_s": short, "first_token_5000_in_s": ttft,
         "most_tokens_70b": most, "roofline_tokens_one_h100": roofline * stated_s,
         "simulated_attested_p50_s": attested, "simulated_first_token_p50_s": first,
         "simulated_attested_in_time": shares["provisional_below_500ms"],
         "simulated_first_token_in_time": shares["first_token_below_500ms"]},
        readings,
        Assumption(
            "most_tokens_70b",
            most,
            "tok",
            "the answer has no more tokens than this, or 500 ms means the first "
            "token; and a sequencer's receipt, not a block, ends it",
        ),
        "A full 70B answer of usual length cannot be made in this time.",
    )


def L02_default_rho(published: Published) -> Evaluation:
    """L02: the default spot-check rate is 1 %; a review of the paper gives 'below 1 %'."""
    stated, bound = published.number("otr.rho", "1"), published.number("otr.rho_review", "1")
    rounds_up_from = 0.5 * stated
    readings = (
        Reading(
            "exactly 1 %", "both sources are exact", stated, "1", "cited", stated < bound, ("otr.rho", "otr.rho_review")
        ),
        Reading("1 % by rounding", "the rate is below 1 % and prints as 1 %", rounds_up_from, "1", "recomputed",
                rounds_up_from < bound, ("otr.rho", "otr.rho_review")),
    )
    return judged(
        "L02",
        {"stated_rho": stated, "least_rho_printed_as_1pct": rounds_up_from},
        readings,
        Assumption("rho", bound, "1", "the default is an upper end: strictly below this, yet printed as 1 %"),
        "A definition, not a measurement; what it buys is claim L32.",
    )


def L03_weighted_latency(grounds: Grounds) -> Evaluation:
    """L03: weighted mean latency 0.8 s with 1 % ZK spot checks."""
    published = grounds.published
    stated, rho = published.number("otr.latency_weighted", "s"), published.number("otr.rho", "1")
    base, proof = published.number("otr.provisional", "s"), published.number("zkml.latency_7b", "s")
    zkllm, flash = published.number("zk.zkllm.7b.prove", "s"), published.number("zk.flashprove.400b.prove", "s")
    batch = published.number("zk.flashprove.400b.batch", "s")
    plain = weighted_latency(base, proof, rho)
    longest, rate = slowest_proof(base, stated, rho), largest_rho(base, stated, proof)
    waited = float(grounds.simulation.payload["otr"]["waited_mean_s"])
    nobody, first = (grounds.simulation.latency_s("OTR", kind) for kind in ("provisional", "first token"))
    own = ("otr.provisional", "otr.rho", "zkml.latency_7b")

    def reading(name: str, text: str, value: float, sources: tuple[str, ...], replaces: str = "") -> Reading:
        holds = value <= stated * (1 + 1e-12)
        return Reading(name, text, value, "s", "recomputed", holds, sources, replaces)

    readings = (
        reading("plain mean", "1 % of the users wait 20 min for the proof", plain, own),
        reading("70B at one hour", "as plain, with the least that 'hours' can mean",
                weighted_latency(base, 3600.0, rho), own),
        reading("proofs off the user's path", "nobody waits for a proof; 0.3 s are something the text does not name",
                base + (stated - base), own),
        reading("part of the model proved", "the checked proof is partial and done in the slowest time that fits",
                weighted_latency(base, longest, rho), own),
        reading("lower rate", "the largest rate that fits", weighted_latency(base, proof, rate), own, "rho = 1 %"),
        reading("median", "0.8 s is a median: it is then the base path, and says nothing of the checks", base, own),
        reading("fastest 7B prover of 2024", "zkLLM on one A100", weighted_latency(base, zkllm, rho),
                ("zk.zkllm.7b.prove",), "ZKML takes over 20 min"),
        reading("prover of 2026, amortised", "FlashProve, share of a batch", weighted_latency(base, flash, rho),
                ("zk.flashprove.400b.prove",), "ZKML takes over 20 min"),
        reading("prover of 2026, as waited for", "FlashProve, whole batch of 24", weighted_latency(base, batch, rho),
                ("zk.flashprove.400b.batch",), "ZKML takes over 20 min"),
        Reading("simulated, proofs waited for", "mean over the trace: attested answers, and 1 % with blocks, beacon, "
                "provers and their line", waited, "s", "simulated", waited <= stated, SIMULATED),
        Reading("simulated, nobody waits", "mean over the trace of the attested answer", nobody, "s", "simulated",
                nobody <= stated, SIMULATED),
        Reading("simulated, first token", "mean over the trace; nobody waits for a proof, nor for the answer", first,
                "s", "simulated", first <= stated, SIMULATED),
    )
    return judged(
        "L03",
        {"plain_mean_s": plain, "plain_over_stated_ratio": plain / stated, "slowest_proof_s": longest,
         "slowest_proof_base_300ms_s": slowest_proof(0.3, stated, rho), "largest_rho": rate,
         "unnamed_path_s": stated - base, "simulated_waited_mean_s": waited, "simulated_attested_mean_s": nobody,
         "simulated_first_token_mean_s": first},
        readings,
        Assumption("slowest_proof_s", longest, "s", "users wait at most this long for a checked proof, or not at all"),
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
    readings = (
        Reading("any prover", "fastest published for 7B: zkLLM, 2048 positions, one A100", zkllm, "s", "cited",
                zkllm > stated, ("zk.zkllm.7b.prove",)),
        Reading("ZKTorch, GPT-J 6B", "2 tokens, 64 CPU threads", gptj, "s", "cited", gptj > stated,
                ("zk.zktorch.gptj_6b.prove",)),
        Reading("ZKTorch, LLaMA-2-7B", "1 token, 64 CPU threads", llama, "s", "cited", llama > stated,
                ("zk.zktorch.llama2_7b.prove",)),
        Reading("zkPyTorch, Llama-3-8B, one token", "answer of one token", per_token, "s", "cited", per_token > stated,
                ("zk.zkpytorch.llama3_8b.prove",)),
        Reading("zkPyTorch, Llama-3-8B, 100 tokens", "time grows with the tokens", 100 * per_token, "s", "recomputed",
                100 * per_token > stated, ("zk.zkpytorch.llama3_8b.prove",)),
        Reading("ezkl, extrapolated", "one token, 64 perfectly used cores", core_s / threads, "s", "recomputed",
                core_s / threads > stated, ("zk.project.extrapolated_7b_token.prove",)),
    )
    return judged(
        "L04",
        {"fastest_published_s": zkllm, "zktorch_llama2_7b_s": llama, "zktorch_gptj_6b_s": gptj,
         "fewest_tokens_zkpytorch": fewest, "most_threads_zktorch": most},
        readings,
        Assumption("most_threads_zktorch", most, "threads",
                   "the prover is ZKTorch on at most this many CPU threads (linear speed-up), or another as slow"),
        "Not a property of ZKML: it belongs to a system, a machine and a number of tokens, and none is named.",
    )


def scaled(seconds: float, params: float, to_params: float, exponent: float) -> float:
    """Proving time carried from one model size to another by a power law."""
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
    log_ratio = math.log(target) / math.log(small)
    rows = (
        ("zkLLM, its own growth", "exponent between its 7B and 13B", scaled(t13, large, target, own), "13b"),
        ("zkLLM, linear", "time grows with the parameters", scaled(t13, large, target, 1.0), "13b"),
    )
    zkllm = tuple(
        Reading(name, text, value, "s", "recomputed", value >= hours, (f"zk.zkllm.{size}.prove",))
        for name, text, value, size in rows
    )
    own_70b = published.number("zk.project.extrapolated_70b_token.prove", "core-s") / 64.0
    linear, log_linear = torch7 * target / small, torch7 * target / small * log_ratio
    readings = (
        *zkllm,
        Reading("ZKTorch, linear", "64 CPU threads, 1 token", linear, "s", "recomputed", linear >= hours,
                ("zk.zktorch.llama2_7b.prove",)),
        Reading("ZKTorch, N log N", "as the abstract says ZKML grows", log_linear, "s", "recomputed",
                log_linear >= hours, ("zk.zktorch.llama2_7b.prove", "zkml.scaling")),
        Reading("ezkl, extrapolated", "this project's unit, one token, 64 perfectly used cores", own_70b, "s",
                "recomputed", own_70b >= hours, ("zk.project.extrapolated_70b_token.prove",)),
        Reading("FlashProve, 400B", "whole batch of 24 on one H100, measured, one token each",
                published.number("zk.flashprove.400b.batch", "s"), "s", "cited", False, ("zk.flashprove.400b.batch",)),
    )
    return judged(
        "L05",
        {"zkllm_growth_exponent": own, "zkllm_70b_linear_s": zkllm[1].value, "zktorch_70b_linear_s": linear,
         "least_exponent_zkllm": least},
        readings,
        Assumption(
            "least_exponent_zkllm",
            least,
            "1",
            "the prover is as slow as ZKTorch on CPUs, or zkLLM grows at least with this power of the parameters",
        ),
        "An extrapolation over a factor of 5 to 10 in size; no published system proved a 70B dense model.",
    )


def L06_speedup_over_zkml(grounds: Grounds) -> Evaluation:
    """L06: 1400 times faster than ZKML."""
    published = grounds.published
    stated, zkml = published.number("otr.speedup_zkml", "ratio"), published.number("zkml.latency_7b", "s")
    mean, base = published.number("otr.latency_weighted", "s"), published.number("otr.provisional", "s")
    gptj, zkllm = published.number("zk.zktorch.gptj_6b.prove", "s"), published.number("zk.zkllm.7b.prove", "s")
    slowest = solved(zkml / stated, lambda otr_s: zkml / otr_s - stated, 1e-3, 100.0)
    plain = 100 * round(zkml / mean / 100)
    proof = grounds.simulation.latency_s("ZKML", "proof")
    attested, first = (grounds.simulation.latency_s("OTR", kind) for kind in ("provisional", "first token"))
    final = [grounds.simulation.latency_s(system, "final") for system in ("ZKML", "OTR")]

    def at_least(name: str, text: str, ratio: float, sources: tuple[str, ...], replaces: str = "") -> Reading:
        return Reading(name, text, ratio, "ratio", "recomputed", ratio >= stated * (1 - 1e-12), sources, replaces)

    own = ("zkml.latency_7b", "otr.latency_weighted", "otr.provisional")
    readings = (
        Reading("stated numbers, as an equality", "20 min over 0.8 s, to the hundred", plain, "ratio", "recomputed",
                plain == stated, own),
        at_least("at least, over 0.8 s", "1400 is a lower bound", zkml / mean, own),
        at_least("at least, over 0.5 s", "1400 is a lower bound", zkml / base, own),
        at_least("exactly 1400", "OTR takes the solved time", zkml / slowest, own, "weighted mean 0.8 s"),
        at_least("ZKTorch GPT-J over 0.8 s", "a 6B model stands for 7B", gptj / mean, ("zk.zktorch.gptj_6b.prove",)),
        at_least("zkLLM 7B over 0.8 s", "fastest published 7B proof", zkllm / mean, ("zk.zkllm.7b.prove",)),
        Reading("simulated, proof over attested answer", "means over the trace; ZKML with 20-minute proofs",
                proof / attested, "ratio", "simulated", proof / attested >= stated, SIMULATED),
        Reading("simulated, proof over first token", "means over the trace: what ends is not the same", proof / first,
                "ratio", "simulated", proof / first >= stated, SIMULATED),
        Reading("simulated, final over final", "ZKML's proof on chain over OTR's window of an hour",
                final[0] / final[1], "ratio", "simulated", final[0] / final[1] >= stated, SIMULATED),
    )
    return judged(
        "L06",
        {"stated_inputs_ratio": zkml / mean, "over_provisional_ratio": zkml / base, "otr_for_1400_s": slowest,
         "zkml_for_1400_s": stated * mean, "zkllm_7b_ratio": zkllm / mean,
         "simulated_over_attested_ratio": proof / attested, "simulated_over_first_token_ratio": proof / first,
         "simulated_final_ratio": final[0] / final[1]},
        readings,
        Assumption("otr_for_1400_s", slowest, "s",
                   "read as a lower bound: OTR takes at most this long and ZKML at least 20 min"),
        "Compares proving with serving: OTR's own share of proofs takes as long as ZKML's.",
    )


def L07_opml_window(published: Published) -> Evaluation:
    """L07: opML waits 7 days. Its own documents fix no window; 7 days is the custom of optimistic rollups."""
    stated = published.number("opml.window", "s")
    op, bold = published.number("op.window", "s"), published.number("bold.period", "s")
    readings = (
        Reading("custom of optimistic rollups", "OP's withdrawal delay", op, "s", "cited", op == stated,
                ("opml.window", "op.window")),
        Reading("BoLD, undisputed", "one challenge period", bold, "s", "cited", bold == stated, ("bold.period",)),
        Reading(
            "BoLD, disputed", "two challenge periods", 2 * bold, "s", "recomputed", 2 * bold == stated, ("bold.period",)
        ),
    )
    return judged(
        "L07",
        {"window_s": stated, "bold_period_s": bold},
        readings,
        note="A parameter of the deployment, not a result; opML itself names none.",
    )


def L08_speedup_over_opml(grounds: Grounds) -> Evaluation:
    """L08: 99 % faster than opML's 7 days."""
    published = grounds.published
    stated, window = published.number("otr.speedup_opml", "1"), published.number("opml.window", "s")
    mean = published.number("otr.latency_weighted", "s")
    reduction = 1.0 - mean / window
    longest = solved((1.0 - stated) * window, lambda otr_s: 1.0 - otr_s / window - stated, 0.0, window)
    own = ("otr.latency_weighted", "opml.window")
    like, early = (
        1.0 - grounds.simulation.latency_s("OTR", kind) / grounds.simulation.latency_s("opML", kind)
        for kind in ("final", "provisional")
    )
    readings = (
        Reading(
            "provisional against final", "0.8 s against 7 days", reduction, "1", "recomputed", reduction >= stated, own
        ),
        Reading("final against final", "OTR's own final window is the longest that fits", 1.0 - longest / window, "1",
                "recomputed", 1.0 - longest / window >= stated - 1e-12, own),
        Reading("provisional against provisional", "opML too answers at once, unconfirmed", 0.0, "1", "recomputed",
                False, ()),
        Reading("final against final, simulated", "means over the trace; OTR's window an hour, one answer in 10,000 "
                "disputed", like, "1", "simulated", like >= stated, SIMULATED),
        Reading("provisional against provisional, simulated", "means over the trace: an attested answer, and one with "
                "its commitment in a block", early, "1", "simulated", early >= stated, SIMULATED),
    )
    return judged(
        "L08",
        {"reduction": reduction, "ratio": window / mean, "longest_final_window_s": longest,
         "simulated_final_reduction": like, "simulated_provisional_reduction": early},
        readings,
        note="Understated, but it sets an answer that is not final against one that is; OTR's final window is unknown.",
    )
