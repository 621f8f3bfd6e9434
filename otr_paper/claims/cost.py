# ruff: noqa: N802 (a function is named after its claim)
# fmt: off
# (Readings and computed numbers are tables, set by hand.)
"""Claims about cost: L09 to L16. All money is USD per query unless a name says otherwise.

Gas is turned into money as ``gas x gas price x ether price``. The published gas prices are ranges,
so both ends are shown where the verdict could hang on them.

Readings of kind *simulated* add up every item of a query on the Azure conversation trace, whoever
pays it: machine time from the simulated capacity, gas of roots and disputes as measured on this
project's contracts, and proofs of 20 minutes at an H100's price unless they say 45 USD.
"""

from __future__ import annotations

import math

from otr_paper.claims.grounds import Grounds
from otr_paper.claims.own_proofs import LONG, SHORT, own_proofs, said
from otr_paper.claims.published import Published, llama_7b, llama_70b
from otr_paper.claims.verdict import ARITHMETIC, Condition, Evaluation, Reading, Rule

#: Published rows behind every simulated cost: the trace, the serving law's runs, machine and gas
#: prices.
SIMULATED = ("trace.azure23_conv.rate", "nim.llama33_70b.1000_1000.c50.itl", "gpu.h100_median", "gas.eth_usd")

#: The query whose inference is priced: our choice, a usual chat turn. L16 sweeps it.
TOKENS_IN, TOKENS_OUT = 1000, 500


def gas_usd(published: Published, gas: float, price_eth: float) -> float:
    """Price of ``gas`` units at ``price_eth`` ether per unit, USD."""
    return gas * price_eth * published.number("gas.eth_usd", "USD")


def commitment_gas(published: Published) -> float:
    """Least gas of a transaction that stores one new 32-byte commitment: base, one new slot, 36
    bytes of calldata.

    From EIP-2028, EIP-2929, EIP-2200. A compiled contract measured while preparing this project
    needed 45,905.
    """
    data = 36 * published.number("evm.calldata_nonzero", "gas")
    return published.number("evm.transaction", "gas") + published.number("evm.sstore_new", "gas") + data


def inference_usd(published: Published, model: str, tokens_in: float, tokens_out: float) -> float:
    """List price of one query, USD. ``model`` is the id of a price row without ``.in`` and
    ``.out``."""
    price_in = published.number(f"price.{model}.in", "USD/tok")
    return tokens_in * price_in + tokens_out * published.number(f"price.{model}.out", "USD/tok")


def h100_usd(published: Published, seconds: float) -> float:
    """Price of ``seconds`` of one H100 at the median on-demand price, USD."""
    return seconds / 3600.0 * published.number("gpu.h100_median", "USD/GPU-h")


def _own_proofs_usd(grounds: Grounds) -> dict[str, tuple[float, str]]:
    """Our own proofs of a short answer, by model: at most so many USD, and what that takes for granted."""
    found = {}
    for model, d in (("7B", llama_7b()), ("70B", llama_70b(grounds.published))):
        cost = own_proofs(grounds).cost(d, SHORT)
        text = f"{said(cost, SHORT)}; a core as dear as an H100, which is an upper bound"
        found[model] = h100_usd(grounds.published, cost.seconds), text
    return found


def L09_otr_cost(grounds: Grounds) -> Evaluation:
    """L09: OTR costs 0.07 USD a query, with 1 % of the queries proved at 45 USD or more."""
    published, simulation = grounds.published, grounds.simulation
    stated, proof = published.number("otr.cost_query", "USD"), published.number("zkml.cost_query", "USD")
    rho = published.number("otr.rho", "1")
    margin = stated - published.number("opml.cost_query", "USD")
    zkllm, flash = (h100_usd(published, published.number(f"zk.{prover}.prove", "s"))
                    for prover in ("zkllm.7b", "flashprove.400b"))
    ours = _own_proofs_usd(grounds)
    at_45, on_base, on_l1 = (simulation.cost_usd("OTR", case) for case in ("Base, proofs at 45 USD", "Base", "L1"))

    rule, cheap, seldom = Rule("USD", "<=", stated), Rule("USD", "<=", stated / rho), Rule("1", "<=", stated / proof)
    readings = (
        rule.follows("proofs paid per query", "1 % of 45 USD, nothing else", rho * proof, "zkml.cost_query",
                     "otr.rho"),
        rule.simulated("simulated, proofs at 45 USD", "every item on Base, all payers", at_45, *SIMULATED),
        *(rule.recomputed(f"1 % of our proofs, {model}, extrapolated", f"nothing else; {text}", rho * usd, "otr.rho",
                          "gpu.h100_median") for model, (usd, text) in ours.items()),
    )
    conditions = (
        Condition("dearest_proof_usd", "a checked proof costs no more than this", cheap,
                  (cheap.recomputed("zkLLM 7B", "its time at an H100's price", zkllm, "zk.zkllm.7b.prove",
                                    "gpu.h100_median"),
                   cheap.recomputed("FlashProve 400B", "share of a batch at an H100's price", flash,
                                    "zk.flashprove.400b.prove", "gpu.h100_median"),
                   *(cheap.recomputed(f"our prover, {model}, extrapolated", text, usd, "gpu.h100_median")
                     for model, (usd, text) in ours.items())), "ZKML costs 45 USD"),
        Condition("all_items_usd", "proofs take 20 minutes at an H100's price, and every item is counted", rule,
                  (rule.simulated("simulated on Base", "all payers", on_base, *SIMULATED),
                   rule.simulated("simulated on L1", "all payers", on_l1, *SIMULATED)), "ZKML costs 45 USD"),
        Condition("largest_rho", "no larger share is proved, and nothing else costs anything", seldom,
                  (seldom.cited("the review's bound", "strictly below", published.number("otr.rho_review", "1"),
                                "otr.rho_review"),), "rho = 1 %"),
        Condition("borne_by_others_usd", "somebody else than the query bears at least this; no text says who",
                  Rule("USD", ">=", rho * proof - stated)),
    )
    return Evaluation(
        {"proofs_alone_usd": rho * proof, "proofs_over_stated_ratio": rho * proof / stated,
         "largest_rho": stated / proof, "largest_rho_margin": margin / proof, "dearest_proof_usd": stated / rho,
         "dearest_proof_margin_usd": margin / rho, "zkllm_7b_proof_usd": zkllm, "flashprove_proof_usd": flash,
         "simulated_on_base_usd": on_base, "simulated_on_l1_usd": on_l1, "simulated_proofs_at_45_usd": at_45,
         **{f"our_{model.lower()}_proof_usd": usd for model, (usd, _) in ours.items()}},
        readings,
        conditions,
    )


def L10_opml_cost(grounds: Grounds) -> Evaluation:
    """L10: opML costs 0.06 USD a query. No gas table of opML is public; what would cost that?"""
    published, simulation = grounds.published, grounds.simulation
    stated, eth = published.number("opml.cost_query", "USD"), published.number("gas.eth_usd", "USD")
    gas, blob_gas = commitment_gas(published), published.number("evm.blob_gas", "gas")
    low, high = published.bounds("gas.l1_price", "ETH")
    simulated = {chain: simulation.cost_usd("opML", chain) for chain in ("Base", "L1")}

    # The claim prints two digits: it holds where the reading rounds to them, however many USD they are.
    rule = Rule("USD", "=", stated, slack=printed_half(stated))
    sources = ("evm.transaction", "evm.sstore_new", "evm.calldata_nonzero")
    readings = (
        rule.recomputed("one commitment, L1 at its usual highest", "nothing batched, no inference",
                        gas_usd(published, gas, high), *sources, "gas.l1_price", "gas.eth_usd"),
        rule.recomputed("one commitment, L1 at its usual lowest", "nothing batched, no inference",
                        gas_usd(published, gas, low), *sources, "gas.l1_price", "gas.eth_usd"),
        rule.recomputed("one commitment, Base", "at the floor price",
                        gas_usd(published, gas, published.number("gas.base_floor", "ETH")), *sources,
                        "gas.base_floor", "gas.eth_usd"),
        rule.cited("benchmark extract", "another public figure for the same scheme",
                   published.number("opml.cost_query_benchmark", "USD"), "opml.cost_query_benchmark"),
        *(rule.simulated(f"simulated on {chain}",
                         "inference, a validator's second run, batched commitments, rare disputes", usd, *SIMULATED)
          for chain, usd in simulated.items()),
    )
    prices = Condition(
        "ether_usd", "one unbatched L1 transaction a query at L1's highest usual price, at an ether price of the year",
        rule, tuple(rule.recomputed(f"ether at {price:,.0f} USD", "within the year's range, in steps of 250 USD",
                                    gas * high * price, *sources, "gas.l1_price", "range.eth_usd")
                    for price in _steps(*published.bounds("range.eth_usd", "USD"), 250.0)),
    )
    return Evaluation(
        {"commitment_gas": gas, "l1_high_usd": gas_usd(published, gas, high),
         "l1_low_usd": gas_usd(published, gas, low), "gas_price_for_stated_gwei": stated / (gas * eth) * 1e9,
         "ether_for_stated_usd": stated / (gas * high), "blob_price_for_stated_gwei": stated / (blob_gas * eth) * 1e9,
         "simulated_on_base_usd": simulated["Base"], "simulated_on_l1_usd": simulated["L1"]},
        readings,
        (prices,),
    )


def _steps(low: float, high: float, step: float) -> list[float]:
    """``low`` to ``high`` in steps, both ends among them."""
    return [low + step * number for number in range(int((high - low) / step + 1e-9) + 1)]


def printed_half(stated: float) -> float:
    """Half a unit of the first digit of a number: how far a value may be from it and still print so."""
    return 0.5 * 10.0 ** math.floor(math.log10(stated) + 1e-9)


def L11_zkml_cost(grounds: Grounds) -> Evaluation:
    """L11: ZKML costs 45 USD or more a query."""
    published = grounds.published
    stated, hourly = published.number("zkml.cost_query", "USD"), published.number("gpu.h100_median", "USD/GPU-h")
    stated_s = published.number("zkml.latency_7b", "s")
    zkllm = h100_usd(published, published.number("zk.zkllm.7b.prove", "s"))
    linear_70b = published.number("zk.zkllm.13b.prove", "s") * (
        published.number("model.llama_70b.params", "params") / published.number("model.llama_13b.params", "params")
    )
    flash = h100_usd(published, published.number("zk.flashprove.400b.prove", "s"))
    core_h = published.number("zk.project.extrapolated_7b_token.prove", "core-s") / 3600.0
    simulated = grounds.simulation.cost_usd("ZKML", "L1")
    ours = _own_proofs_usd(grounds)
    long_h = own_proofs(grounds).cost(llama_70b(published), LONG).seconds / 3600.0

    rule, long = Rule("USD", ">=", stated), Rule("h", ">=", stated / hourly)
    readings = (
        rule.recomputed("fastest published 7B proof", "zkLLM time at an H100's price", zkllm, "zk.zkllm.7b.prove",
                        "gpu.h100_median"),
        rule.recomputed("the stated 20 minutes", "one H100", h100_usd(published, stated_s), "zkml.latency_7b",
                        "gpu.h100_median"),
        rule.recomputed("70B, zkLLM grown linearly", "from its 13B time, at an H100's price",
                        h100_usd(published, linear_70b), "zk.zkllm.13b.prove", "gpu.h100_median"),
        rule.recomputed("prover of 2026", "FlashProve, share of a batch", flash, "zk.flashprove.400b.prove",
                        "gpu.h100_median"),
        rule.simulated("simulated on L1", "inference, a 20-minute proof and its check on chain", simulated,
                       *SIMULATED),
        *(rule.recomputed(f"our prover, {model}, extrapolated", text, usd, "gpu.h100_median")
          for model, (usd, text) in ours.items()),
    )
    conditions = (
        Condition("h100_hours_for_stated_h", "a query's proof takes at least this many hours of a machine as dear as "
                  "an H100", long,
                  (long.cited("zkLLM, 13B", "one A100", published.number("zk.zkllm.13b.prove", "h"),
                              "zk.zkllm.13b.prove"),
                   long.cited("FlashProve, 400B, batch of 24", "one H100",
                              published.number("zk.flashprove.400b.batch", "h"), "zk.flashprove.400b.batch"))),
        Condition("core_hour_usd", "a core costs at least this an hour, and our circuit is the prover; no row prices a "
                  "core", Rule("USD", ">=", stated / core_h)),
        Condition("core_hour_whole_answer_usd", f"a core costs at least this an hour, and our prover proves {LONG:,} "
                  "positions of a 70B model, extrapolated; no row prices a core", Rule("USD", ">=", stated / long_h)),
    )
    return Evaluation(
        {"zkllm_7b_usd": zkllm, "h100_hours_for_stated": stated / hourly,
         "machine_usd_per_hour_at_20min": stated / (stated_s / 3600.0), "core_hour_usd_ezkl_7b_token": stated / core_h,
         "flashprove_usd": flash, "simulated_on_l1_usd": simulated,
         "core_hour_usd_ours_70b_long": stated / long_h,
         **{f"our_{model.lower()}_usd": usd for model, (usd, _) in ours.items()}},
        readings,
        conditions,
    )


def _simulated_ratios(grounds: Grounds, rule: Rule, above: str, below: str) -> dict[str, Reading]:
    """One system's simulated cost over another's, by chain: the name of the number, and its
    reading."""
    found = {}
    for chain in ("Base", "L1"):
        ratio = grounds.simulation.cost_usd(above, chain) / grounds.simulation.cost_usd(below, chain)
        found[f"simulated_on_{chain.lower()}_ratio"] = rule.simulated(
            f"simulated on {chain}", "every item of both, 20-minute proofs at an H100's price", ratio, *SIMULATED
        )
    return found


def L12_zkml_over_otr(grounds: Grounds) -> Evaluation:
    """L12 (derived): ZKML costs 643 times as much as OTR."""
    published = grounds.published
    zkml, otr = (published.number(f"{system}.cost_query", "USD") for system in ("zkml", "otr"))
    rule = Rule("ratio", "=", published.number("derived.zkml_over_otr", "ratio"), slack=0.5)
    simulated = _simulated_ratios(grounds, rule, "ZKML", "OTR")
    plain = rule.follows("stated over stated", "both figures as stated", zkml / otr, "zkml.cost_query",
                         "otr.cost_query")
    ours = {f"our_{model.lower()}_proofs_ratio": rule.recomputed(
        f"our prover, {model}, extrapolated", f"every item of both on Base, all proofs ours; {text}",
        _with_proofs(grounds, usd), "gpu.h100_median", "otr.rho", *SIMULATED)
        for model, (usd, text) in _own_proofs_usd(grounds).items()}
    found = {**simulated, **ours}
    return Evaluation(
        {"zkml_over_otr_ratio": zkml / otr, **{name: reading.value for name, reading in found.items()}},
        (plain, *found.values()),
        settles=ARITHMETIC,
    )


def _with_proofs(grounds: Grounds, usd: float) -> float:
    """ZKML's simulated cost on Base over OTR's, had every proof of both cost so much."""
    cost, rho = grounds.simulation.cost_usd, grounds.published.number("otr.rho", "1")
    zkml = cost("ZKML") - cost("ZKML", item="proofs") + usd
    return zkml / (cost("OTR") - cost("OTR", item="sampled proofs") + rho * usd)


def L13_otr_over_opml(grounds: Grounds) -> Evaluation:
    """L13 (derived): OTR costs 1.17 times as much as opML."""
    published = grounds.published
    otr, opml = published.number("otr.cost_query", "USD"), published.number("opml.cost_query", "USD")
    bench = published.number("opml.cost_query_benchmark", "USD")
    rule = Rule("ratio", "=", published.number("derived.otr_over_opml", "ratio"), slack=0.005)
    simulated = _simulated_ratios(grounds, rule, "OTR", "opML")
    readings = (
        rule.follows("stated over stated", "both figures as stated", otr / opml, "otr.cost_query",
                     "opml.cost_query"),
        rule.recomputed("benchmark extract", "opML at the other public figure", otr / bench, "otr.cost_query",
                        "opml.cost_query_benchmark"),
        *simulated.values(),
    )
    return Evaluation(
        {"otr_over_opml_ratio": otr / opml, **{name: reading.value for name, reading in simulated.items()}},
        readings,
        settles=ARITHMETIC,
    )


def L14_signature_margin(grounds: Grounds) -> Evaluation:
    """L14: the 0.01 USD above opML is the check of the TEE's signature."""
    published, simulation = grounds.published, grounds.simulation
    stated = published.number("derived.signature_margin", "USD")
    margin = published.number("otr.cost_query", "USD") - published.number("opml.cost_query", "USD")
    eth, recover = published.number("gas.eth_usd", "USD"), published.number("evm.ecrecover", "gas")
    wrapped, full = published.number("quote.sp1_groth16", "gas"), sum(published.bounds("quote.onchain", "gas")) / 2
    low, high = published.bounds("gas.l1_price", "ETH")
    base = published.number("gas.base_floor", "ETH")
    on_base, on_l1 = (
        sum(simulation.cost_usd("OTR", chain, item) for item in ("signature check", "key registration"))
        for chain in ("Base", "L1")
    )

    rule, once = Rule("USD", "<=", stated), Rule("gas", "<=", stated / (high * eth))
    exact = Rule("USD", "=", stated, slack=printed_half(stated))

    def check(name: str, assumption: str, gas: float, wei: float, source: str, price: str) -> Reading:
        return rule.recomputed(name, assumption, gas_usd(published, gas, wei), source, price, "gas.eth_usd")

    readings = (
        check("quote checked per query, L1", "whole quote on chain, low gas price", full, low, "quote.onchain",
              "gas.l1_price"),
        exact.follows("0.07 less 0.06 USD", "both figures as stated", margin, "otr.cost_query", "opml.cost_query"),
        check("quote wrapped in a SNARK, L1", "per query, low gas price", wrapped, low, "quote.sp1_groth16",
              "gas.l1_price"),
        check("quote checked per query, Base", "whole quote on chain, floor price", full, base, "quote.onchain",
              "gas.base_floor"),
        check("quote wrapped in a SNARK, Base", "per query, floor price", wrapped, base, "quote.sp1_groth16",
              "gas.base_floor"),
        rule.simulated("simulated on Base", "one signature per answer, a quote a day", on_base, *SIMULATED),
        rule.simulated("simulated on L1", "one signature per answer, a quote a day, middle gas price", on_l1,
                       *SIMULATED),
    )
    signature = Condition(
        "most_gas_l1_high_gas", "the quote is checked once, when a key registers, and a query's check needs no more "
        "gas than this at L1's usual highest price", once,
        (once.cited("one signature", "precompile of the EVM", recover, "evm.ecrecover"),),
    )
    return Evaluation(
        {"margin_usd": margin, "most_gas_l1_high": stated / (high * eth),
         "gas_price_ecrecover_gwei": stated / (recover * eth) * 1e9,
         "gas_price_snark_gwei": stated / (wrapped * eth) * 1e9, "gas_price_full_gwei": stated / (full * eth) * 1e9,
         "simulated_on_base_usd": on_base, "simulated_on_l1_usd": on_l1},
        readings,
        (signature,),
    )


def L15_cost_meaning(published: Published) -> Evaluation:
    """L15: 0.07 USD is the total cost in one text and the marginal overhead in the other: the price of
    the inference lies between them, and no text says of which query."""
    stated, model = published.number("otr.cost_query", "USD"), "llama31_70b_fireworks"
    chat = inference_usd(published, model, TOKENS_IN, TOKENS_OUT)
    per_token = published.number(f"price.{model}.out", "USD/tok")
    longest = published.number("hw.llama31_context", "tok") * per_token
    half = printed_half(stated)
    rule, sources = Rule("USD", "<=", half), (f"price.{model}.in", f"price.{model}.out")
    readings = (
        rule.recomputed("a usual chat turn", "total and overhead print alike: inference is lost in the rounding", chat,
                        *sources),
        rule.recomputed("the longest context", "total and overhead print alike: inference is lost in the rounding",
                        longest, *sources, "hw.llama31_context"),
    )
    return Evaluation(
        {"chat_inference_usd": chat, "longest_context_usd": longest, "most_tokens_within_rounding": half / per_token},
        readings,
        meanings=2,
    )


def L16_near_native_cost(grounds: Grounds) -> Evaluation:
    """L16: near-native cost. 0.07 USD against what the inference itself costs; 'near' read as
    within 10 %."""
    published, simulation = grounds.published, grounds.simulation
    stated, near = published.number("otr.cost_query", "USD"), published.number("read.near_native", "ratio")
    dear = published.number("price.llama31_70b_fireworks.out", "USD/tok")
    context = published.number("hw.llama31_context", "tok")
    chat = inference_usd(published, "llama31_70b_fireworks", TOKENS_IN, TOKENS_OUT)
    cheap = inference_usd(published, "llama31_70b_deepinfra_2025", TOKENS_IN, TOKENS_OUT)
    native = simulation.cost_usd("centralised")
    overhead = simulation.cost_usd("OTR") / native - 1.0
    proofs = sum(simulation.cost_usd("OTR", item=item) for item in ("sampled proofs", "proof checks"))
    without_proofs = overhead - proofs / native
    tokens = stated / (near * dear)

    rule, long = Rule("ratio", "<=", near), Rule("tok", ">=", tokens)
    readings = (
        rule.recomputed("usual chat turn, dear provider", "1000 in, 500 out, at its list price", stated / chat,
                        "price.llama31_70b_fireworks.out", "price.llama31_70b_fireworks.in"),
        rule.recomputed("usual chat turn, cheaper provider", "1000 in, 500 out", stated / cheap,
                        "price.llama31_70b_deepinfra_2025.out"),
        rule.simulated("simulated on Base",
                       "every item but inference, over inference; 20-minute proofs at an H100's price", overhead,
                       *SIMULATED),
    )
    conditions = (
        Condition("tokens_for_near_tok", "a query is at least this long", long,
                  (long.cited("longest context", "every token the model can hold", context, "hw.llama31_context"),)),
        Condition("overhead_without_proofs_ratio", "somebody else pays for the proofs", rule,
                  (rule.simulated("simulated on Base, without proofs", "every other item over inference",
                                  without_proofs, *SIMULATED),)),
    )
    return Evaluation(
        {"overhead_over_chat_ratio": stated / chat, "overhead_over_cheaper_chat_ratio": stated / cheap,
         "overhead_over_longest_context_ratio": stated / (context * dear), "tokens_for_10pct": tokens,
         "simulated_overhead_over_inference_ratio": overhead, "simulated_without_proofs_ratio": without_proofs},
        readings,
        conditions,
    )
