"""The local stack of `make up`, `make down`, `make test` and the system tests."""
