"""Latent diffusion models: loading, and the one attention processor that constraints speak to."""
