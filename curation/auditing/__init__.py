"""Find broken, blurred, near-duplicate and leaking scenes."""
