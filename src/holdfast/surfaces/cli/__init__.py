"""The command line: one module per group of commands. Modules here import what is heavy only where it is used."""
