"""Four systems on the same requests, simulated: latencies by kind, throughput, cost; and *unstable* where none exists.

Read in this order: ``arrivals`` and ``summary`` (the requests), ``law`` (how long a step of a serving machine takes,
fitted and tested in ``accuracy``), ``replica`` (the machine), ``overhead`` (what confidential mode adds), ``queues``
(provers, and queueing theory), ``settlement`` (blocks, beacon, disputes, windows), ``inputs`` (every number with its
source), ``systems`` (OTR, opML, ZKML, PoQ as parameters), ``run``, ``stats`` and ``money``; ``stored`` hands results to
the claims. Pure functions of their arguments; numpy is all they need, scipy for the fit.
"""
