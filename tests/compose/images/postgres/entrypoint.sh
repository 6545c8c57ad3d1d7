#!/bin/bash
# Create the administrator and run the SQL files at the first start; run the server with further arguments.
set -e

if [ "$(id -u)" = 0 ]; then
  chown postgres:postgres "$PGDATA"
  exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  (umask 077; echo "$POSTGRES_PASSWORD" > /tmp/password)
  initdb --username postgres --pwfile /tmp/password --auth-host scram-sha-256
  rm /tmp/password
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl --wait start --options "-c listen_addresses="
  for file in /docker-entrypoint-initdb.d/*.sql; do
    psql --username postgres --set ON_ERROR_STOP=1 < "$file"
  done
  pg_ctl --wait stop
fi
exec postgres -c listen_addresses='*' "$@"
