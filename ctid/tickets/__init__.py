"""What the agent writes down: forms, workflows, promises. Pure."""
