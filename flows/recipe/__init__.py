"""What is asked: a recipe, its expressions and the plan that it resolves to."""
