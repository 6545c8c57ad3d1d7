"""The event board: pages for people, made on the server and refreshed by a small script."""
