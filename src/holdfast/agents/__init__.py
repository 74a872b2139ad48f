"""One file per kind of agent: a declaration and a pure translator. The only place, with `wire`, where agents are named."""
