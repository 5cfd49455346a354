"""User-preference studies: a page that asks people to compare two videos, and what they answer."""
