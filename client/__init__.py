"""What runs in other people's processes."""
