"""Types and framing of protocols: those of the agents, and our own link and outer contract. Pure."""
