"""Files from elsewhere: fetched through any number of mirrors, resumed, checked, and pinned."""
