"""Tests of the tolerance leaf rule, one file per module."""

#: Token ids that the tiny decoder runs on.
IDS = [5, 9, 33, 12, 60, 7, 7, 21, 48, 3, 17, 30, 44, 11, 5, 28]
