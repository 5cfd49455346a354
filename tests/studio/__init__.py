"""The studio: its application in this process, and its page in a browser."""
