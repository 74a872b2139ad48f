"""Tests of `holdfast.doctor`: its checks, and the scripted model that ships with it."""
