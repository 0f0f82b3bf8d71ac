"""What is kept: the hold-out, the verdict, the canaries."""
