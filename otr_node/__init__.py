"""What whoever runs something needs: checkpoints and lanes, the enclave, serving, a player's own
run of an answer.

Importing this package is light; torch and transformers load with the first model.
"""
