"""What runs on a device, checked without one."""
