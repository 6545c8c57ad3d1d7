"""The local stack: what `make up`, `make down`, `make test` and the system tests run on."""
