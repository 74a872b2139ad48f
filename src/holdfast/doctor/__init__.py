"""Proof that an installation works: checks of this host, and the scripted model that agents are tried against.

It reads views and sends commands like any other client; nothing below it imports it.
"""
