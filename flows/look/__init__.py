"""What a person sees: views, why, listings and the report."""
