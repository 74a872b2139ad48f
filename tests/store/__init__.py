"""The event store: what is special about SQLite, and what the contract suite stands on."""
