"""The site: stored notebooks, pages, and an API reference from docstrings, as HTML that needs no network."""
