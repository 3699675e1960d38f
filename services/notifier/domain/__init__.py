"""What is said to people, and when: pure decisions."""
