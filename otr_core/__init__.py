"""The verifier side of "Optimistic TEE-Rollups" (arXiv 2512.20176): checks evidence, receipts, disputes and proofs.

Floors, each importing from its own and lower ones only: ``errors, encoding, merkle, files`` → ``lane`` →
``attestation, poea`` → ``dispute, spotcheck`` → ``cli``; ``economics`` stands beside them and is shown by ``cli``.
Importing a part loads no library that only another part needs. Whoever runs something adds ``otr_node``; what serves
the paper alone is in ``otr_paper``.
"""

__version__ = "0.1.0"
