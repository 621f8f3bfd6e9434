"""Every claim of the paper, judged by code.

Find the code of claim L18 by its number: one function per claim, named ``L18_...``. ``otr claims
L18`` prints its path.

* ``latency``: L01 to L08. ``cost``: L09 to L16. ``throughput``: L17, L18.
* ``quality``: L19 to L22, L35 to L39 (the experiment behind them is ``otr_paper.poq``).
* ``receipts``: L23 to L25. ``disputes``: L26, L28.
* ``security``: L27, L29 to L33, L41. ``landscape``: L34, L40. ``trilemma``: L42.

The way of a number: a claim function takes rows of ``data/published`` (``published``) or stored
results (``grounds``), and makes from them readings of the claim, each judged by a rule; the verdict
follows from the readings (``verdict``). ``ledger`` writes and checks the numbers of
``data/claims.yaml``, whose words are written by hand; ``otr_paper.press.claims_table`` prints its
rows.
"""
