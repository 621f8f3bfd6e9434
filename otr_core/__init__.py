"""The verifier side of "Optimistic TEE-Rollups" (arXiv 2512.20176).

It checks the evidence of machines, receipts, disputes and proofs. Its rooms stand on floors, and a
room imports from its own floor and from lower ones only: ``errors, encoding, merkle, files`` →
``lane`` → ``attestation, poea`` → ``dispute, spotcheck`` → ``cli``. ``economics`` stands beside
them, and ``cli`` shows it. Importing a part loads no library that only another part needs.

Whoever runs something adds the package ``otr_node``; what serves the paper alone is in
``otr_paper``.
"""

__version__ = "0.1.0"
