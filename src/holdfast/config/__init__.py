"""The configuration of one installation: the file, the variables, and what agents get to see of the environment."""

from holdfast.config.environment import agent_environment, restart_environment
from holdfast.config.load import AgentConfig, Config, find_program, is_built_in, load, nearest

__all__ = [
    "AgentConfig",
    "Config",
    "agent_environment",
    "find_program",
    "is_built_in",
    "load",
    "nearest",
    "restart_environment",
]
