"""Stored results and their cards."""
