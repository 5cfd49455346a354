"""From key frames to every frame: the choices, and the mathematics they share."""
