"""How the two propagated versions of a frame become one."""
