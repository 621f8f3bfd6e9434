"""The portable lane, defined once: number formats, tables, the program of operators, and each arithmetic step."""
