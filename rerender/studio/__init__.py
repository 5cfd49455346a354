"""The studio: a web page on this machine that restyles clips by starting the run command."""
