"""What the dialplan asks: FastAGI."""
