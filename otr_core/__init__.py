"""Core of the executable "Optimistic TEE-Rollups" paper (arXiv 2512.20176).

Floors, lower never imports upper: ``errors, encoding, files, merkle`` → ``attestation, inference`` → ``poea`` →
``economics, evaluation`` → ``artifact`` → ``cli`` and the notebooks. Importing one part does not load the heavy
libraries of another: ``otr_core.economics`` needs neither torch nor ezkl.
"""

__version__ = "0.1.0"
