"""A whole network on one machine: a node, operators, fishermen and a client, each a process."""
