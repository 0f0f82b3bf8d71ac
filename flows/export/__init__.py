"""What goes out: shards, their data card and the lines that open them."""
