"""The portable lane, defined once: formats, tables, program, and each arithmetic step."""
