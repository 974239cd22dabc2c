"""Scores: pure functions first, state only where something accumulates."""
