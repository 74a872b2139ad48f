"""The seeded simulator: the real engine, runner and store in one loop with virtual time, under faults from a seed."""
