"""Networks: what they are made of, how they are trained, the files that hold them."""
