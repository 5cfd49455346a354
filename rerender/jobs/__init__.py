"""A job of a command: run one configuration, score its videos, keep its record."""
