"""Holdfast's tests: fakes over mocks, real agent programs over fakes, and no test that cannot fail."""
