"""What is wrong with this terminal, and the exact fix: its own checks, its surroundings, and facts for who helps."""
