"""What turns the core into a paper artifact: outside data, figures, notebooks, the reproduce
run."""
