"""What is done with a network on regions: today the region probe, which measures features in minutes."""
