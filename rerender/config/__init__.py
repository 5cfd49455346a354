"""From the command line to checked configurations and the parts they describe."""
