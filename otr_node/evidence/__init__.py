"""Evidence of machines, from where people have it to where they need it: files, services, tokens."""
