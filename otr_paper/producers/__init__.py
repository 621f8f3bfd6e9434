"""The long measurements behind data/results: each module writes stored results with their cards
(``make bench``)."""
