"""What the matcher decides, and nothing of how it is stored, sent or asked for."""
