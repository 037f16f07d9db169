"""Where a call should go. Pure."""
