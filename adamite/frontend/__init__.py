"""What front-ends share: whose optimizer is meant, settings, names, documentation."""
