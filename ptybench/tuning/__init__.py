"""The search for a method's best options: the same budget for every method, on objects that no board shows."""
