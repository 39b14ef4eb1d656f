"""From one head to a population: subjects by protocol, reference charts, dating, growth over time and its disorders."""
