"""Data sets from elsewhere: fetched, verified and unpacked."""
