"""mild-bench: curate data sets for, and benchmark, human erasing."""

__version__ = "0.1.0"
