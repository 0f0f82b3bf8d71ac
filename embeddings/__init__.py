"""What turns payloads into vectors and scores; one encoder or scorer per file."""
