"""The proof of a whole answer: its statement, the relations of the lane, and the verifier."""
