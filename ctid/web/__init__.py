"""People's side: HTTP, WebSocket, pages."""
