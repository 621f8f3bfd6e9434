# ruff: noqa: N802 (a function is named after its claim)
# fmt: off
# (Readings and computed numbers are tables, set by hand.)
"""Claims about latency: L01 to L08.

Latencies are kept apart by what ends them: the first token, the answer, the provisional answer, the
proof, the final answer. A mean over unlike things is shown as such. The base path is the stated
provisional finality, 0.5 s.

Readings of kind *simulated* come from an hour of the Azure conversation trace on a 70B model (see
``otr_paper.simulation``): two machines of two H100s, 1 % of the answers proved in 20 minutes each.
What our own parameters fix, such as a window of an hour, is no reading of a claim.
"""

from __future__ import annotations

import math

from otr_paper.claims.grounds import Grounds
from otr_paper.claims.own_proofs import LONG, SHORT, own_proofs, said
from otr_paper.claims.published import Published, llama_7b, llama_70b
from otr_paper.claims.trilemma import costs, read_inputs
from otr_paper.claims.verdict import DEFINITION, Condition, Evaluation, Rule

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
    return (mean_s - (1.0 - rho) * base_s) / rho


def largest_rho(base_s: float, mean_s: float, proof_s: float) -> float:
    """Largest checked share at which ``weighted_latency`` is still ``mean_s``."""
    return (mean_s - base_s) / (proof_s - base_s)


def stated_mean(published: Published) -> float:
    """Mean latency that the stated rate, base path and proof time give, s."""
    rho = published.number("otr.rho", "1")
    return weighted_latency(published.number("otr.provisional", "s"), published.number("zkml.latency_7b", "s"), rho)


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
    ours = grounds.memo("our latency", lambda: _served_here(grounds))
    most = stated_s * tokens / answer_70b

    rule, shorter = Rule("s", "<", stated_s), Rule("tok", "<=", most)
    plain = f"{tokens:.0f} tokens, 4 H100, no TEE"
    readings = (
        rule.cited("whole answer, 70B", plain, answer_70b, "cc43"),
        rule.cited("whole answer, 8B", plain.replace("4 H100", "1 H100"), answer_8b, "cc44"),
        rule.cited("inclusion in an L1 block", "the answer counts once it is in a block",
                   published.number("hw.ethereum_slot", "s"), "hw.ethereum_slot"),
        rule.simulated("attested answer, simulated", "median over the trace: written in a TEE, signed and checked",
                       attested, *SIMULATED),
        rule.simulated("promise of inclusion on an L2, simulated", "median attested answer and one preconfirmation",
                       attested + published.number("hw.base_flashblock", "s"), *SIMULATED, "hw.base_flashblock"),
        rule.measured("our receipt, verified by the client", "SmolLM2 135M on a CPU, at most 12 tokens, with trace",
                      ours),
    )
    first_token = Condition(
        "first_token_s", "500 ms is the time to the first token, which no attestation covers yet", rule,
        (rule.cited("first token, 70B, short prompt", "500 in, 2 H100 fp8, one user, no TEE", short, "cc52.ttft"),
         rule.cited("first token, 70B, long prompt", "5000 in, 2 H100 fp8, one user, no TEE", long, "cc47.ttft"),
         rule.recomputed("first token, long prompt, TEE as for 7B", "with the smaller published TEE slow-down",
                         long * fast_tee, "cc47.ttft", "cc25"),
         rule.recomputed("first token, long prompt, TEE as for 30B", "with the larger published TEE slow-down",
                         long * slow_tee, "cc47.ttft", "cc27"),
         rule.simulated("first token, simulated", "median over the trace, in a TEE", first, *SIMULATED)),
    )
    short_answer = Condition(
        "most_tokens_70b_tok", "the answer is no longer than fits, and a promise of inclusion ends it", shorter,
        (shorter.cited("mean answer of the conversation trace", "Azure 2023", published.number(
            "trace.azure23_conv.out", "tok"), "trace.azure23_conv.out"),
         shorter.cited("mean answer of the code trace", "Azure 2023", published.number(
             "trace.azure23_code.out", "tok"), "trace.azure23_code.out")),
    )
    shares = simulation.payload["otr"]
    return Evaluation(
        {"answer_70b_s": answer_70b, "first_token_500_in_s": short, "first_token_5000_in_s": long,
         "most_tokens_70b": most, "roofline_tokens_one_h100": roofline * stated_s,
         "simulated_attested_p50_s": attested, "simulated_first_token_p50_s": first,
         "simulated_attested_in_time": shares["provisional_below_500ms"],
         "simulated_first_token_in_time": shares["first_token_below_500ms"], "our_receipt_s": ours},
        readings,
        (first_token, short_answer),
    )


def _served_here(grounds: Grounds) -> float:
    """CPU seconds until our own answer of the comparison is there, signed and verified, s."""
    ours = costs(read_inputs(grounds))
    return ours["answer_s"] + ours["sign_s"] + ours["verify_s"]


def L02_default_rho(published: Published) -> Evaluation:
    """L02: the default spot-check rate is 1 %; a review of the paper gives 'below 1 %'."""
    stated, bound = published.number("otr.rho", "1"), published.number("otr.rho_review", "1")
    rule = Rule("1", "<=", bound)
    reading = rule.cited("against the review", "both sources, as far as they are printed", stated, "otr.rho_review")
    return Evaluation({"stated_rho": stated, "review_bound": bound}, (reading,), settles=DEFINITION)


def L03_weighted_latency(grounds: Grounds) -> Evaluation:
    """L03: weighted mean latency 0.8 s with 1 % ZK spot checks."""
    published, simulation = grounds.published, grounds.simulation
    stated, rho = published.number("otr.latency_weighted", "s"), published.number("otr.rho", "1")
    base, proof = published.number("otr.provisional", "s"), published.number("zkml.latency_7b", "s")
    longest, rate, mean_s = slowest_proof(base, stated, rho), largest_rho(base, stated, proof), stated_mean(published)
    waited = float(simulation.payload["otr"]["waited_mean_s"])
    attested, first = (simulation.latency_s("OTR", kind) for kind in ("provisional", "first token"))
    proofs = own_proofs(grounds)
    seven = proofs.cost(llama_7b(), SHORT)
    small_mean, seven_mean = (weighted_latency(base, proof_s, rho) for proof_s in (proofs.proof_s, seven.seconds))

    rule, in_time, seldom = Rule("s", "<=", stated), Rule("s", "<=", longest), Rule("1", "<=", rate)
    own = ("otr.provisional", "otr.rho", "zkml.latency_7b")
    readings = (
        rule.follows("plain mean", "1 % of the users wait 20 min for the proof", mean_s, *own),
        rule.follows("70B at one hour", "as plain, with the least that 'hours' can mean",
                     weighted_latency(base, 3600.0, rho), *own),
        rule.simulated("simulated, proofs waited for",
                       "mean over the trace: attested answers, and 1 % with blocks, beacon, provers and their line",
                       waited, *SIMULATED),
        rule.simulated("simulated, nobody waits", "mean over the trace of the attested answer", attested, *SIMULATED),
        rule.recomputed("our prover, SmolLM2 135M, measured", f"as plain; a proof over {SHORT} positions, one core",
                        small_mean, "otr.provisional", "otr.rho"),
        rule.recomputed("our prover, 7B, extrapolated", f"as plain; {said(seven, SHORT)}", seven_mean,
                        "otr.provisional", "otr.rho"),
    )
    provers = (("fastest 7B prover of 2024, zkLLM", "zk.zkllm.7b.prove"),
               ("prover of 2026, FlashProve, share of a batch", "zk.flashprove.400b.prove"),
               ("prover of 2026, FlashProve, whole batch of 24", "zk.flashprove.400b.batch"))
    conditions = (
        Condition("slowest_proof_s", "a checked proof takes no longer than this", in_time,
                  tuple(in_time.cited(name, "as published", published.number(row, "s"), row) for name, row in provers),
                  "ZKML takes over 20 min"),
        Condition("largest_rho", "no larger share of the users waits for a proof", seldom,
                  (seldom.cited("the review's bound", "strictly below", published.number("otr.rho_review", "1"),
                                "otr.rho_review"),), "rho = 1 %"),
        Condition("no_wait_s", "nobody waits for a proof, nor for the whole answer", rule,
                  (rule.simulated("simulated, first token", "mean over the trace", first, *SIMULATED),),
                  "1 % spot checks in the mean"),
    )
    return Evaluation(
        {"plain_mean_s": mean_s, "plain_over_stated_ratio": mean_s / stated, "slowest_proof_s": longest,
         "slowest_proof_base_300ms_s": slowest_proof(0.3, stated, rho), "largest_rho": rate,
         "simulated_waited_mean_s": waited, "simulated_attested_mean_s": attested,
         "simulated_first_token_mean_s": first, "our_135m_mean_s": small_mean, "our_7b_mean_s": seven_mean},
        readings,
        conditions,
    )


def L04_zkml_7b_latency(grounds: Grounds) -> Evaluation:
    """L04: ZKML takes over 20 minutes for a 7B inference. With which prover?"""
    published, proofs = grounds.published, own_proofs(grounds)
    short, long = (proofs.cost(llama_7b(), positions) for positions in (SHORT, LONG))
    stated = published.number("zkml.latency_7b", "s")
    zkllm = published.number("zk.zkllm.7b.prove", "s")
    gptj, llama = published.number("zk.zktorch.gptj_6b.prove", "s"), published.number("zk.zktorch.llama2_7b.prove", "s")
    per_token = published.number("zk.zkpytorch.llama3_8b.prove", "s")
    core_s = published.number("zk.project.extrapolated_7b_token.prove", "core-s")
    threads = 64.0  # of the ZKTorch rows

    rule = Rule("s", ">", stated)
    readings = (
        rule.cited("any prover", "fastest published for 7B: zkLLM, 2048 positions, one A100", zkllm,
                   "zk.zkllm.7b.prove"),
        rule.cited("zkPyTorch, Llama-3-8B, one token", "answer of one token", per_token,
                   "zk.zkpytorch.llama3_8b.prove"),
        rule.recomputed("zkPyTorch, Llama-3-8B, 100 tokens", "time grows with the tokens", 100 * per_token,
                        "zk.zkpytorch.llama3_8b.prove"),
        rule.recomputed("ezkl, extrapolated", "one token, 64 perfectly used cores", core_s / threads,
                        "zk.project.extrapolated_7b_token.prove"),
        rule.recomputed("our prover, 7B, short answer, extrapolated", said(short, SHORT), short.seconds),
        rule.recomputed("our prover, 7B, long answer, extrapolated", said(long, LONG), long.seconds),
    )
    slow = Condition(
        "prover_s", "the prover is a published one on 64 CPU threads, not the fastest", rule,
        (rule.cited("ZKTorch, LLaMA-2-7B", "1 token, 64 CPU threads", llama, "zk.zktorch.llama2_7b.prove"),
         rule.cited("ZKTorch, GPT-J 6B", "2 tokens, 64 CPU threads", gptj, "zk.zktorch.gptj_6b.prove")),
    )
    return Evaluation(
        {"fastest_published_s": zkllm, "zktorch_llama2_7b_s": llama, "zktorch_gptj_6b_s": gptj,
         "fewest_tokens_zkpytorch": stated / per_token, "most_threads_zktorch": threads * llama / stated,
         "our_135m_s": proofs.proof_s, "our_7b_short_s": short.seconds, "our_7b_short_error": short.error,
         "our_7b_long_s": long.seconds, "our_7b_long_error": long.error,
         "our_7b_positions_in_stated_count": float(proofs.longest(llama_7b(), stated))},
        readings,
        (slow,),
    )


def scaled(seconds: float, params: float, to_params: float, exponent: float) -> float:
    """Proving time carried from one model size to another by a power law, s."""
    return float(seconds * (to_params / params) ** exponent)


def L05_zkml_70b_latency(grounds: Grounds) -> Evaluation:
    """L05: ZKML takes hours for a 70B inference. Published 7B and 13B times carried to 70B."""
    published, proofs = grounds.published, own_proofs(grounds)
    d = llama_70b(published)
    short, far = (proofs.cost(d, positions) for positions in (SHORT, LONG))
    hours = published.number("read.hours", "s")
    small, large, target = (published.number(f"model.llama_{size}.params", "params") for size in ("7b", "13b", "70b"))
    t7, t13 = published.number("zk.zkllm.7b.prove", "s"), published.number("zk.zkllm.13b.prove", "s")
    torch7 = published.number("zk.zktorch.llama2_7b.prove", "s")
    own = math.log(t13 / t7) / math.log(large / small)
    least = math.log(hours / t13) / math.log(target / large)
    by_size, by_growth = (scaled(t13, large, target, exponent) for exponent in (1.0, own))
    linear = scaled(torch7, small, target, 1.0)
    log_ratio = math.log(target) / math.log(small)
    core_s = published.number("zk.project.extrapolated_70b_token.prove", "core-s")
    batch = published.number("zk.flashprove.400b.batch", "s")

    rule = Rule("s", ">=", hours)
    readings = (
        rule.recomputed("zkLLM, its own growth", "exponent between its 7B and 13B", by_growth, "zk.zkllm.13b.prove",
                        "zk.zkllm.7b.prove"),
        rule.recomputed("zkLLM, linear", "time grows with the parameters", by_size, "zk.zkllm.13b.prove"),
        rule.recomputed("ezkl, extrapolated", "this project's unit, one token, 64 perfectly used cores",
                        core_s / 64.0, "zk.project.extrapolated_70b_token.prove"),
        rule.cited("FlashProve, 400B", "whole batch of 24 on one H100, measured, one token each", batch,
                   "zk.flashprove.400b.batch"),
        rule.recomputed("our prover, 70B, short answer, extrapolated", said(short, SHORT), short.seconds,
                        "model.llama_70b.layers"),
        rule.recomputed("our prover, 70B, long answer, extrapolated", said(far, LONG), far.seconds,
                        "model.llama_70b.layers"),
    )
    slow = Condition(
        "prover_70b_s", "the prover is as slow as ZKTorch on CPUs, and no better at 70B than in proportion", rule,
        (rule.recomputed("ZKTorch, linear", "64 CPU threads, 1 token", linear, "zk.zktorch.llama2_7b.prove"),
         rule.recomputed("ZKTorch, N log N", "as the abstract says ZKML grows", linear * log_ratio,
                         "zk.zktorch.llama2_7b.prove", "zkml.scaling")),
    )
    return Evaluation(
        {"zkllm_growth_exponent": own, "zkllm_70b_linear_s": by_size, "zktorch_70b_linear_s": linear,
         "least_exponent_zkllm": least, "our_70b_short_s": short.seconds, "our_70b_short_error": short.error,
         "our_70b_long_s": far.seconds, "our_70b_long_error": far.error},
        readings,
        (slow,),
    )


def L06_speedup_over_zkml(grounds: Grounds) -> Evaluation:
    """L06: 1400 times faster than ZKML. It follows from 0.8 s, and stands no better than that."""
    published, simulation = grounds.published, grounds.simulation
    stated, zkml = published.number("otr.speedup_zkml", "ratio"), published.number("zkml.latency_7b", "s")
    mean, base = published.number("otr.latency_weighted", "s"), published.number("otr.provisional", "s")
    own_mean, zkllm = stated_mean(published), published.number("zk.zkllm.7b.prove", "s")
    slowest = zkml / stated
    proof = simulation.latency_s("ZKML", "proof")
    over_attested, over_first = (proof / simulation.latency_s("OTR", kind) for kind in ("provisional", "first token"))
    waited = float(simulation.payload["otr"]["waited_mean_s"])
    rho, proofs = published.number("otr.rho", "1"), own_proofs(grounds)
    proved, seven = proofs.answer_s + proofs.proof_s, proofs.cost(llama_7b(), SHORT)
    alike = proved / weighted_latency(proofs.answer_s, proved, rho)

    above, fast = Rule("ratio", ">=", stated), Rule("s", "<=", slowest)
    own = ("zkml.latency_7b", "otr.rho", "otr.provisional")
    readings = (
        above.recomputed("20 min over the mean that the stated parts give", "the mean of L03, its checks in it",
                         zkml / own_mean, *own),
        above.follows("20 min over 0.8 s", "both as stated", zkml / mean, "zkml.latency_7b", "otr.latency_weighted"),
        above.follows("20 min over 0.5 s", "both as stated, no query checked", zkml / base, "zkml.latency_7b",
                      "otr.provisional"),
        above.recomputed("zkLLM 7B over 0.8 s", "fastest published 7B proof", zkllm / mean, "zk.zkllm.7b.prove"),
        above.simulated("simulated, proof over attested answer",
                        "means over the trace; ZKML with 20-minute proofs", over_attested, *SIMULATED),
        above.recomputed("our prover and our lane, SmolLM2 135M, measured", "one core: every answer proven, over the "
                         f"mean with 1 % of the proofs waited for; {SHORT} positions", alike, "otr.rho"),
        above.recomputed("our prover, 7B, extrapolated, over 0.8 s", said(seven, SHORT), seven.seconds / mean,
                         "otr.latency_weighted"),
    )
    conditions = (
        Condition("otr_for_1400_s", "OTR's mean with its checks is no longer than this", fast,
                  (fast.simulated("simulated, proofs waited for", "mean over the trace", waited, *SIMULATED),
                   fast.recomputed("mean of L03", "as the stated parts give it", own_mean, *own))),
        Condition("first_token_ratio", "a first token is set against a whole proof, and nobody waits for checks", above,
                  (above.simulated("simulated, proof over first token", "means over the trace", over_first,
                                   *SIMULATED),), "weighted mean 0.8 s"),
    )
    return Evaluation(
        {"stated_inputs_ratio": zkml / mean, "over_provisional_ratio": zkml / base, "own_mean_ratio": zkml / own_mean,
         "otr_for_1400_s": slowest, "zkml_for_1400_s": stated * mean, "zkllm_7b_ratio": zkllm / mean,
         "simulated_over_attested_ratio": over_attested, "simulated_over_first_token_ratio": over_first,
         "our_135m_ratio": alike, "our_7b_over_stated_ratio": seven.seconds / mean, "most_at_rho_ratio": 1.0 / rho},
        readings,
        conditions,
    )


def L07_opml_window(published: Published) -> Evaluation:
    """L07: opML waits 7 days. Its own documents fix no window; 7 days is the custom of optimistic
    rollups."""
    stated = published.number("opml.window", "s")
    op, bold = published.number("op.window", "s"), published.number("bold.period", "s")
    rule = Rule("s", "=", stated)
    readings = (rule.cited("custom of optimistic rollups", "OP's withdrawal delay", op, "op.window"),
                rule.cited("BoLD, undisputed", "one challenge period", bold, "bold.period"),
                rule.recomputed("BoLD, disputed", "two challenge periods", 2 * bold, "bold.period"))
    return Evaluation({"window_s": op, "bold_period_s": bold}, readings)


def L08_speedup_over_opml(grounds: Grounds) -> Evaluation:
    """L08: 99 % faster than opML's 7 days."""
    published, simulation = grounds.published, grounds.simulation
    stated, window = published.number("otr.speedup_opml", "1"), published.number("opml.window", "s")
    mean, own_mean = published.number("otr.latency_weighted", "s"), stated_mean(published)
    provisional = 1.0 - simulation.latency_s("OTR", "provisional") / simulation.latency_s("opML", "provisional")
    final = 1.0 - simulation.latency_s("OTR", "final") / simulation.latency_s("opML", "final")

    rule = Rule("1", ">=", stated)
    readings = (
        rule.recomputed("mean of L03 against final", "as the stated parts give it, against the stated window",
                        1.0 - own_mean / window, "otr.provisional", "otr.rho", "zkml.latency_7b", "opml.window"),
        rule.follows("provisional against final", "0.8 s against 7 days", 1.0 - mean / window, "otr.latency_weighted",
                     "opml.window"),
        rule.simulated("provisional against provisional, simulated",
                       "means over the trace: an attested answer, and one with its commitment in a block",
                       provisional, *SIMULATED),
    )
    # Final against final is a number of the window that this project deploys: it is computed, and no evidence.
    least = Rule("s", "<=", (1.0 - stated) * window)
    final_too = "OTR's answer is final, too, within this; no text gives its window"
    return Evaluation(
        {"reduction": 1.0 - mean / window, "own_mean_reduction": 1.0 - own_mean / window, "ratio": window / mean,
         "longest_final_window_s": least.asked, "simulated_provisional_reduction": provisional,
         "simulated_final_reduction": final, "deployed_window_s": grounds.profile.court.window_s},
        readings,
        (Condition("final_window_s", final_too, least),),
    )
