"""`make test-compose`: run docker-compose.yaml on a Docker Engine, kill each container, and count."""
