"""The few rules that all packages share; imports nothing of ours."""
