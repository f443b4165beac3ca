"""What is measured: distances between videos, and whether a video shows what its prompt says."""
