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

from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import Evaluation, Reading, Rule, at_least, at_most, solved

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


def L09_otr_cost(grounds: Grounds) -> Evaluation:
    """L09: OTR costs 0.07 USD a query, with 1 % of the queries proved at 45 USD or more."""
    published, simulation = grounds.published, grounds.simulation
    stated, proof = published.number("otr.cost_query", "USD"), published.number("zkml.cost_query", "USD")
    rho, opml = published.number("otr.rho", "1"), published.number("opml.cost_query", "USD")
    margin = stated - opml
    zkllm, flash = (h100_usd(published, published.number(f"zk.{prover}.prove", "s"))
                    for prover in ("zkllm.7b", "flashprove.400b"))
    largest = solved(stated / proof, lambda rate: rate * proof - stated, 0.0, 1.0)
    largest_margin = solved(margin / proof, lambda rate: rate * proof - margin, 0.0, 1.0)
    dearest = solved(stated / rho, lambda usd: rho * usd - stated, 0.0, 1e6)
    dearest_margin = solved(margin / rho, lambda usd: rho * usd - margin, 0.0, 1e6)
    at_45, on_base, on_l1 = (simulation.cost_usd("OTR", case) for case in ("Base, proofs at 45 USD", "Base", "L1"))

    rule, summed = Rule("USD", at_most(stated)), Rule("USD", lambda usd: usd <= stated)
    own = ("otr.cost_query", "zkml.cost_query", "otr.rho")
    lower, cheaper = {"replaces": "rho = 1 %"}, {"replaces": "ZKML costs 45 USD"}
    readings = (
        rule.recomputed("proofs paid per query", "1 % of 45 USD, nothing else", rho * proof, *own),
        rule.recomputed("proofs not counted",
                        "proofs are paid by the node or from slashes; the query pays opML's cost and the signature "
                        "check", opml + margin, "opml.cost_query"),
        rule.recomputed("part of the model proved", f"a proof covers {stated / (rho * proof):.1%} of the work",
                        rho * proof * stated / (rho * proof), *own),
        rule.recomputed("lower rate", "all of 0.07 USD is proofs", largest * proof, *own, **lower),
        rule.recomputed("lower rate, margin only", "the 0.01 USD above opML is proofs",
                        opml + largest_margin * proof, *own, **lower),
        rule.recomputed("cheaper proof", "all of 0.07 USD is proofs", rho * dearest, *own, **cheaper),
        rule.recomputed("cheaper proof, margin only", "the 0.01 USD above opML is proofs",
                        opml + rho * dearest_margin, *own, **cheaper),
        rule.recomputed("fastest 7B prover of 2024", "zkLLM time at an H100's price", opml + rho * zkllm,
                        "zk.zkllm.7b.prove", "gpu.h100_median", **cheaper),
        rule.recomputed("prover of 2026", "FlashProve, share of a batch", opml + rho * flash,
                        "zk.flashprove.400b.prove", "gpu.h100_median", **cheaper),
        summed.simulated("simulated, proofs at 45 USD", "every item on Base, all payers", at_45, *SIMULATED),
        summed.simulated("simulated on Base", "every item, 20-minute proofs at an H100's price", on_base, *SIMULATED,
                         **cheaper),
        summed.simulated("simulated on L1", "every item, 20-minute proofs at an H100's price", on_l1, *SIMULATED,
                         **cheaper),
    )
    return Evaluation(
        {"proofs_alone_usd": rho * proof, "proofs_over_stated_ratio": rho * proof / stated, "largest_rho": largest,
         "largest_rho_margin": largest_margin, "dearest_proof_usd": dearest, "dearest_proof_margin_usd": dearest_margin,
         "zkllm_7b_proof_usd": zkllm, "flashprove_proof_usd": flash, "simulated_on_base_usd": on_base,
         "simulated_on_l1_usd": on_l1, "simulated_proofs_at_45_usd": at_45},
        readings,
        ("dearest_proof_usd", dearest),
    )


def L10_opml_cost(grounds: Grounds) -> Evaluation:
    """L10: opML costs 0.06 USD a query. No gas table of opML is public; what would cost that?"""
    published, simulation = grounds.published, grounds.simulation
    stated, eth = published.number("opml.cost_query", "USD"), published.number("gas.eth_usd", "USD")
    gas, blob_gas = commitment_gas(published), published.number("evm.blob_gas", "gas")
    low, high = published.bounds("gas.l1_price", "ETH")
    base = published.number("gas.base_floor", "ETH")
    price = solved(stated / (gas * eth), lambda wei: gas * wei * eth - stated, 0.0, 1e-6)
    blob = solved(stated / (blob_gas * eth), lambda wei: blob_gas * wei * eth - stated, 0.0, 1e-6)
    simulated = {chain: simulation.cost_usd("opML", chain) for chain in ("Base", "L1")}

    # The claim prints two digits: it holds where the reading rounds to them.
    rule = Rule("USD", lambda usd: abs(usd - stated) < 0.005)

    def commitment(name: str, assumption: str, wei: float, row: str) -> Reading:
        sources = ("evm.transaction", "evm.sstore_new", "evm.calldata_nonzero", "gas.eth_usd", row)
        return rule.recomputed(name, assumption, gas_usd(published, gas, wei), *sources)

    readings = (
        commitment("one commitment, L1 at its usual highest", "nothing batched, no inference", high, "gas.l1_price"),
        commitment("one commitment, L1 at its usual lowest", "nothing batched, no inference", low, "gas.l1_price"),
        commitment("one commitment, Base", "at the floor price", base, "gas.base_floor"),
        commitment("one commitment, L1 at the solved price", "gas is as dear as it must be", price, "gas.eth_usd"),
        rule.cited("benchmark extract", "another public figure for the same scheme",
                   published.number("opml.cost_query_benchmark", "USD"), "opml.cost_query_benchmark"),
        *(rule.simulated(f"simulated on {chain}",
                         "inference, a validator's second run, batched commitments, rare disputes", usd, *SIMULATED)
          for chain, usd in simulated.items()),
    )
    return Evaluation(
        {"commitment_gas": gas, "l1_high_usd": gas_usd(published, gas, high),
         "l1_low_usd": gas_usd(published, gas, low), "gas_price_for_stated_gwei": price * 1e9,
         "blob_price_for_stated_gwei": blob * 1e9, "simulated_on_base_usd": simulated["Base"],
         "simulated_on_l1_usd": simulated["L1"]},
        readings,
        ("gas_price_for_stated_gwei", price * 1e9),
    )


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
    hours = solved(stated / hourly, lambda h: h * hourly - stated, 0.0, 1e5)
    machine = solved(stated / (stated_s / 3600.0), lambda usd: usd * stated_s / 3600.0 - stated, 0.0, 1e6)

    rule, summed = Rule("USD", at_least(stated)), Rule("USD", lambda usd: usd >= stated)
    readings = (
        rule.recomputed("fastest published 7B proof", "zkLLM time at an H100's price", zkllm, "zk.zkllm.7b.prove",
                        "gpu.h100_median"),
        rule.recomputed("the stated 20 minutes", "one H100", h100_usd(published, stated_s), "zkml.latency_7b",
                        "gpu.h100_median"),
        rule.recomputed("70B, zkLLM grown linearly", "from its 13B time, at an H100's price",
                        h100_usd(published, linear_70b), "zk.zkllm.13b.prove", "gpu.h100_median"),
        rule.recomputed("prover of 2026", "FlashProve, share of a batch", flash, "zk.flashprove.400b.prove",
                        "gpu.h100_median"),
        rule.recomputed("long proof", "the solved number of H100-hours", hours * hourly, "gpu.h100_median"),
        summed.simulated("simulated on L1", "inference, a 20-minute proof and its check on chain", simulated,
                         *SIMULATED),
    )
    return Evaluation(
        {"zkllm_7b_usd": zkllm, "h100_hours_for_stated": hours, "machine_usd_per_hour_at_20min": machine,
         "core_hour_usd_ezkl_7b_token": stated / core_h, "flashprove_usd": flash, "simulated_on_l1_usd": simulated},
        readings,
        ("h100_hours_for_stated", hours),
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
    zkml, otr = (grounds.published.number(f"{system}.cost_query", "USD") for system in ("zkml", "otr"))
    rule = Rule("ratio", lambda ratio: round(ratio, 0) == 643)
    simulated = _simulated_ratios(grounds, rule, "ZKML", "OTR")
    plain = rule.recomputed("stated over stated", "both figures as stated", zkml / otr, "zkml.cost_query",
                            "otr.cost_query")
    return Evaluation(
        {"zkml_over_otr_ratio": zkml / otr, **{name: reading.value for name, reading in simulated.items()}},
        (plain, *simulated.values()),
    )


def L13_otr_over_opml(grounds: Grounds) -> Evaluation:
    """L13 (derived): OTR costs 1.17 times as much as opML."""
    published = grounds.published
    otr, opml = published.number("otr.cost_query", "USD"), published.number("opml.cost_query", "USD")
    bench = published.number("opml.cost_query_benchmark", "USD")
    rule = Rule("ratio", lambda ratio: round(ratio, 2) == 1.17)
    simulated = _simulated_ratios(grounds, rule, "OTR", "opML")
    readings = (
        rule.recomputed("stated over stated", "both figures as stated", otr / opml, "otr.cost_query",
                        "opml.cost_query"),
        rule.recomputed("benchmark extract", "opML at the other public figure", otr / bench, "otr.cost_query",
                        "opml.cost_query_benchmark"),
        *simulated.values(),
    )
    return Evaluation(
        {"otr_over_opml_ratio": otr / opml, **{name: reading.value for name, reading in simulated.items()}},
        readings,
    )


def L14_signature_margin(grounds: Grounds) -> Evaluation:
    """L14 (derived): the 0.01 USD above opML is the check of the TEE's signature."""
    published, simulation = grounds.published, grounds.simulation
    margin = published.number("otr.cost_query", "USD") - published.number("opml.cost_query", "USD")
    eth, recover = published.number("gas.eth_usd", "USD"), published.number("evm.ecrecover", "gas")
    wrapped, full = published.number("quote.sp1_groth16", "gas"), sum(published.bounds("quote.onchain", "gas")) / 2
    low, high = published.bounds("gas.l1_price", "ETH")
    base = published.number("gas.base_floor", "ETH")
    on_base, on_l1 = (
        sum(simulation.cost_usd("OTR", chain, item) for item in ("signature check", "key registration"))
        for chain in ("Base", "L1")
    )
    most_gas = solved(margin / (high * eth), lambda gas: gas * high * eth - margin, 0.0, 1e9)

    rule = Rule("USD", lambda usd: usd <= margin)

    def check(name: str, assumption: str, gas: float, wei: float, source: str, price: str) -> Reading:
        return rule.recomputed(name, assumption, gas_usd(published, gas, wei), source, price, "gas.eth_usd")

    readings = (
        check("quote checked per query, L1", "whole quote on chain, low gas price", full, low, "quote.onchain",
              "gas.l1_price"),
        check("quote wrapped in a SNARK, L1", "per query, low gas price", wrapped, low, "quote.sp1_groth16",
              "gas.l1_price"),
        check("quote checked per query, Base", "whole quote on chain, floor price", full, base, "quote.onchain",
              "gas.base_floor"),
        check("quote wrapped in a SNARK, Base", "per query, floor price", wrapped, base, "quote.sp1_groth16",
              "gas.base_floor"),
        rule.simulated("simulated on Base", "one signature per answer, a quote a day", on_base, *SIMULATED),
        rule.simulated("simulated on L1", "one signature per answer, a quote a day, middle gas price", on_l1,
                       *SIMULATED),
        check("one signature per query, L1", "the quote is checked once, when the key registers; high gas price",
              recover, high, "evm.ecrecover", "gas.l1_price"),
    )
    return Evaluation(
        {"margin_usd": margin, "most_gas_l1_high": most_gas, "gas_price_ecrecover_gwei": margin / (recover * eth) * 1e9,
         "gas_price_snark_gwei": margin / (wrapped * eth) * 1e9, "gas_price_full_gwei": margin / (full * eth) * 1e9,
         "simulated_on_base_usd": on_base, "simulated_on_l1_usd": on_l1},
        readings,
        ("most_gas_l1_high", most_gas),
    )


def L15_cost_meaning(published: Published) -> Evaluation:
    """L15: 0.07 USD is the total cost in one text and the marginal overhead in the other."""
    stated = published.number("otr.cost_query", "USD")
    model = "llama31_70b_fireworks"
    chat = inference_usd(published, model, TOKENS_IN, TOKENS_OUT)
    widest = 0.01  # both figures print as 0.07, so they lie in [0.065, 0.075)
    per_token = published.number(f"price.{model}.out", "USD/tok")
    tokens = solved(widest / per_token, lambda count: count * per_token - widest, 0.0, 1e9)

    # The difference between total and overhead is the price of inference.
    never, always = Rule("USD", lambda usd: False), Rule("USD", lambda usd: True)
    rounded = Rule("USD", lambda usd: usd < widest)
    readings = (
        never.recomputed("both exact", "total minus overhead is the price of inference, which is then nothing", 0.0,
                         "otr.cost_query"),
        rounded.recomputed("both rounded", "a usual chat turn at list price is lost in the rounding", chat,
                           f"price.{model}.in", f"price.{model}.out"),
        always.cited("inference billed apart", "'cost' means all that is paid on chain", stated, "otr.cost_query"),
    )
    return Evaluation(
        {"chat_inference_usd": chat, "most_tokens_within_rounding": tokens},
        readings,
        ("dearest_inference_usd", widest),
    )


def L16_near_native_cost(grounds: Grounds) -> Evaluation:
    """L16: near-native cost. 0.07 USD against what the inference itself costs; 'near' read as
    within 10 %."""
    published, simulation = grounds.published, grounds.simulation
    stated, near = published.number("otr.cost_query", "USD"), 0.10
    dear = published.number("price.llama31_70b_fireworks.out", "USD/tok")
    context = published.number("hw.llama31_context", "tok")
    chat = inference_usd(published, "llama31_70b_fireworks", TOKENS_IN, TOKENS_OUT)
    cheap = inference_usd(published, "llama31_70b_deepinfra_2025", TOKENS_IN, TOKENS_OUT)
    native = simulation.cost_usd("centralised")
    overhead = simulation.cost_usd("OTR") / native - 1.0
    proofs = sum(simulation.cost_usd("OTR", item=item) for item in ("sampled proofs", "proof checks"))
    without_proofs = overhead - proofs / native
    tokens = solved(stated / (near * dear), lambda count: count * dear * near - stated, 0.0, 1e12)

    rule, other = Rule("ratio", lambda ratio: ratio <= near), Rule("ratio", lambda ratio: True)
    readings = (
        rule.recomputed("usual chat turn, dear provider",
                        "1000 in, 500 out, on top of 0.90 USD per million tokens", stated / chat,
                        "price.llama31_70b_fireworks.out"),
        rule.recomputed("usual chat turn, cheaper provider", "1000 in, 500 out", stated / cheap,
                        "price.llama31_70b_deepinfra_2025.out"),
        rule.recomputed("longest context", "every token the model can hold, dear provider", stated / (context * dear),
                        "price.llama31_70b_fireworks.out"),
        rule.simulated("simulated on Base",
                       "every item but inference, over inference; 20-minute proofs at an H100's price", overhead,
                       *SIMULATED),
        rule.simulated("simulated on Base, without proofs", "the same, proofs paid by somebody else", without_proofs,
                       *SIMULATED),
        other.recomputed("against ZKML", "'native' means the other verified systems",
                         stated / published.number("zkml.cost_query", "USD"), "zkml.cost_query",
                         replaces="near-native"),
    )
    return Evaluation(
        {"overhead_over_chat_ratio": stated / chat, "overhead_over_cheaper_chat_ratio": stated / cheap,
         "overhead_over_longest_context_ratio": stated / (context * dear), "tokens_for_10pct": tokens,
         "simulated_overhead_over_inference_ratio": overhead, "simulated_without_proofs_ratio": without_proofs},
        readings,
    )
