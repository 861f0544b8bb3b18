"""Labels for a pool, how good they are, and which of them may be trained on."""
