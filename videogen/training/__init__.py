"""One training loop for every part that learns."""
