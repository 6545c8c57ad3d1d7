"""The event board: HTML pages that the server renders and a small script refreshes."""
