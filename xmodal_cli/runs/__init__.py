"""The run folder, checkpoints, device, precision and the one training loop; knows neither transfer nor detection."""
