"""The data behind each figure: pure functions from stored results and published numbers to what is
drawn."""
