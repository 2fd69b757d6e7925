"""Drawing labelled cases from a generator and writing them with their provenance."""
