"""The sampling loops."""
