"""A shelf of parts that objectives compose by call; no base class."""
