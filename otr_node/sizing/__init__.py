"""Stake, rate, penalty, bounty and fishermen for a network of one's own: ``otr size``, ``otr economics``."""
