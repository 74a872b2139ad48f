"""Claude Code as a kind of agent: declaration and launch (`kind`), and its translator with what that is made of."""
