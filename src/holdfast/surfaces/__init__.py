"""Ways to reach the engine: HTTP and the command line. Thin: parse, authorise, call, render."""
