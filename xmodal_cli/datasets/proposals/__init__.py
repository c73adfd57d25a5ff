"""Object proposals that others published, made to fit a prepared data set."""
