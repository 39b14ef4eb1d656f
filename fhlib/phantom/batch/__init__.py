"""Many scans: which ones a cohort has (`plan`), and their simulation in parallel (`workers`)."""
