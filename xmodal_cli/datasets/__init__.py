"""From published data and folders of pairs to prepared data sets."""
