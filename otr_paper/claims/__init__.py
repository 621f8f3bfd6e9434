"""Every claim of the paper, judged by code; and the data of the figures that show it.

Find the code of claim L18 by its number: one function per claim, named ``L18_...``, in ``latency`` (L01 to L08),
``cost`` (L09 to L16), ``throughput`` (L17, L18), ``quality`` (L19 to L22, L35 to L39; the experiment behind them is
``poq``), ``security`` (L27, L29 to L33,
L41) and ``landscape`` (L34, L40). ``ledger`` keeps ``data/claims.yaml`` in step with them.
"""

from otr_paper.claims.verdict import Assumption, Evaluation, Reading

__all__ = ["Assumption", "Evaluation", "Reading"]
