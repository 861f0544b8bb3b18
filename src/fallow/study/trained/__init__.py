"""What trained rungs share: which network, how its images are noised, how it is trained, and for how long."""
