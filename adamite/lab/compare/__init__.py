"""Which optimizer, and with what learning rate: trainings of one problem, tuned alike, compared over seeds."""
