"""The whole house as processes: real server, real runner, real agents, killed with real signals."""
