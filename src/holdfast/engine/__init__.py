"""The shell around the pure core: the only writer of events and the only performer of effects."""
