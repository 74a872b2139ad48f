"""Tests of the pure core: stories (given, when, then), laws that hold after every step, and a machine that plays."""
