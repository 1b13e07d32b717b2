"""Problems to train on, one file each: where its data come from, a start, a loss, a gradient."""
