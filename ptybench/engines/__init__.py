"""What families of algorithms share: the loop over patterns, written once."""
