"""The event store port and its implementations; views and their SQL live beside it."""
