"""Pictures for people: contact sheets of data sets."""
