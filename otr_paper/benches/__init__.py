"""The scenes that notebooks, labs and README set up: an operator with a model, an order, an answer,
a chain."""
