"""From sources to scenes: composing, annotating, reviewing, releasing."""
