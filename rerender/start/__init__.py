"""Where the denoising of a key frame begins."""
