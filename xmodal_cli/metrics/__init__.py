"""What is measured, as plain dataclasses: no network, no data set, no torch."""
