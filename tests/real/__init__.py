"""What tests need to drive a real agent program: where it is, how it is started, and what it may not reach."""
