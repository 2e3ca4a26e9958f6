"""Networks as they are used: what they are made of, what they stretch, the files that hold them."""
