#!/bin/bash
# Create the user and the database at the first start, and run the server with further arguments.
set -e
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  install --directory --owner postgres --group postgres --mode 700 "$PGDATA"
  (umask 077; echo "$POSTGRES_PASSWORD" > /tmp/password)
  chown postgres /tmp/password
  as_postgres initdb --username "$POSTGRES_USER" --pwfile /tmp/password --auth-host scram-sha-256
  rm /tmp/password
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  as_postgres pg_ctl --wait start --options "-c listen_addresses="
  as_postgres createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do
    as_postgres psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" < "$file"
  done
  as_postgres pg_ctl --wait stop
fi
exec setpriv --reuid postgres --regid postgres --init-groups postgres -c listen_addresses='*' "$@"
