"""The run engine: stages that are files in, files out, and resumable."""
