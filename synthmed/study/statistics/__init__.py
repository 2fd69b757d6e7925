"""What the trials of a study show: means, intervals, tests, and the answer."""
