"""The screen: one module per command, options in, one call, a report out. Nothing heavy is imported at module level."""
