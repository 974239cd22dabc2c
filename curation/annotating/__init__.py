"""Measure a scene: who hides whom, how crowded it is, what makes it hard."""
