"""What stays true over time: verification."""
