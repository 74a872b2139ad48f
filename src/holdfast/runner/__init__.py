"""The shim that holds agent processes on one host. It knows no agent, no database and no thread."""
