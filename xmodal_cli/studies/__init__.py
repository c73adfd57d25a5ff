"""Whole experiments made of the steps that the commands are: the paper's tables, and a first run for everyone."""
