"""The Python client against a real HTTP application."""
