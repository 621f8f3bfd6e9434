"""Tests of what makes the stored results."""
