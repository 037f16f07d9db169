"""What Asterisk says: bytes to messages to typed events, and typed actions back."""
