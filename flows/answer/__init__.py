"""Whether it helped: pretraining, evaluation and the comparison of arms."""
