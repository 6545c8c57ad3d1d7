#!/bin/bash
# The arguments are those of the command airflow, or bash or python with arguments.
case "$1" in
  bash | python) exec "$@" ;;
  *) exec airflow "$@" ;;
esac
