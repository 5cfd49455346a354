"""Samplers: numerical solvers of the denoising process, equal to diffusers' own schedulers."""
