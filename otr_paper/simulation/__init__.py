"""Four systems simulated on the same requests: latencies by kind, throughput and cost.

Read in this order: ``arrivals`` and ``summary`` (the requests), ``law`` (how long a step of a
serving machine takes; ``fit`` fits it, ``accuracy`` tests it), ``replica`` and ``machine`` (the
machine), ``proof_pool``
(the line for proofs), ``settlement`` (blocks, beacon, disputes, windows), ``inputs`` (every number
with its source), ``systems`` (OTR, opML, ZKML, PoQ as parameters), ``run``, ``stats`` and
``money``; ``study`` makes what is stored. Pure functions of their arguments; numpy and numba are
all they need, scipy for the fit.
"""

SIMULATION, SWEEP, SUMMARIES = "simulation", "simulation_sweep", "trace_summaries"
"""Names of the stored results: the four systems on the conversation trace, the sweep of OTR, the
traces' summaries."""
SERVING_LAW = "serving_law"
"""Name of the stored fit of the serving law."""
