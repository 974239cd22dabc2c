"""Turn scenes into tasks, freeze them, prove them on another machine."""
