"""Training the layered model: pictures to learn from, objectives, and modules that give losses."""
