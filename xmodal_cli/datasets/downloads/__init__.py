"""The published files that the paper used: what they are, where they live, fetching and unpacking them."""
