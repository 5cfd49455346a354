"""Structure maps of the source that ControlNets follow."""
