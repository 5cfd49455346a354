"""What runs on a CUDA device, and how fast."""
