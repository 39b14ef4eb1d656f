"""Charts of numbers: cohorts, trainings, scores, agreement, growth."""
