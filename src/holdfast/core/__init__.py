"""What may happen and when: commands, events, state and effects as pure functions. No clock, no randomness, no I/O."""
