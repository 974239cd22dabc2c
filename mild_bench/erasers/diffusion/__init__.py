"""Pipelines of diffusers as erasers: ``eraser.diffusion`` is the way in."""
