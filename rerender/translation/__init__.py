"""Key-frame translation: the denoising loop with edits, and what it is made of."""
