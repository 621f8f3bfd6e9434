"""Proof of Quality, run for real: questions with exact answers, light judges, published rewards,
and an adversary.

Formulas are of arXiv 2405.17934 (original), 2512.16317 (cost-aware) and 2601.21189 (robust
aggregation). The adversary is six layers of the honest model, distilled from bought answers and
then tuned against the judge by best-of-n.
"""
