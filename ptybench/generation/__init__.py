"""Formula-driven training data: generators of images by name, files of them, and their streams."""
