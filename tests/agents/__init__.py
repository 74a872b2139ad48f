"""Tests of the kinds of agents: their translators over pipes, in virtual time and from transcripts."""
