"""Make scenes of real people from a fixed-camera video."""
