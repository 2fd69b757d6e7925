"""What the trials of a study say: means, intervals, tests and the words for them."""
