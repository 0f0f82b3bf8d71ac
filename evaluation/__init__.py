"""What curated data is worth: protocols over features, with intervals."""
