"""The figures of the notebooks: data in, picture out. A number that a label shows comes with the data."""
