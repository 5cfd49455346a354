"""What a device does with this project, and how fast: `python -m experiments.bench.gpu`."""
