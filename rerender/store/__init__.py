"""The stage store: finished stages of any run, found again by what decides them."""
