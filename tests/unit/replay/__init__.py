"""Tests of what is done again with timelines."""
