"""What comes in: sources become the parts of a pool."""
