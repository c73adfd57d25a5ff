"""Equation 2 of the paper: a student learns, from pairs alone, to give a frozen teacher's mid-level features."""
