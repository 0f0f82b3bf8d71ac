"""What is measured: the tables of a plan, each found where it was made before."""
