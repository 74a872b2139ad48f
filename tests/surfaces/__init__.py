"""HTTP and the command line: shape, walls, bounds, and whole commands against a real server."""
