"""`prepare merge`: the parts of a data set, prepared with `--shard`, joined into the whole."""
