"""Frames of videos as prepared data: any folder of videos, JHMDB and UCF101."""
