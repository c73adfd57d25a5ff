"""NYU Depth v2, the paper's own data: from the labelled file or from the authors' archive to a prepared data set."""
