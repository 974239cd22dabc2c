"""Erasers: one file each family; the table of names is ``mild_bench.plugins.ERASERS``."""
