#!/bin/bash
# Set the password of root and run the SQL files at the first start, and run the server.
set -e
data=/var/lib/mysql
server=(mysqld --no-defaults --datadir="$data" --socket=/var/run/mysqld/mysqld.sock)

if [ "$(id -u)" = 0 ]; then
  chown mysql:mysql "$data"
  exec setpriv --reuid mysql --regid mysql --init-groups "$0" "$@"
fi
if [ ! -e "$data/initialised" ]; then
  rm -rf "${data:?}"/*
  "${server[@]}" --initialize-insecure
  {
    cat /docker-entrypoint-initdb.d/*.sql
    echo "ALTER USER 'root'@'$MYSQL_ROOT_HOST' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';"
    echo "SHUTDOWN;"
  } > /tmp/init.sql
  "${server[@]}" --skip-networking --init-file=/tmp/init.sql
  rm /tmp/init.sql
  touch "$data/initialised"
fi
exec "${server[@]}" --bind-address='*'
