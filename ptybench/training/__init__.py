"""Training of networks: recipes, the loop, what a trained network is measured to do."""
