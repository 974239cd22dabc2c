"""Parts of the layered diffusion model of arXiv 2508.06543 that plug into other models."""
