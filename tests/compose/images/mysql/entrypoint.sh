#!/bin/bash
# Create the users at the first start, and run the server.
set -e
data=/var/lib/mysql
server=(mysqld --no-defaults --user=mysql --datadir="$data" --socket=/tmp/mysql.sock)

if [ ! -e "$data/initialised" ]; then
  rm -rf "${data:?}"/*
  chown mysql:mysql "$data"
  "${server[@]}" --initialize-insecure
  {
    echo "CREATE USER '$MYSQL_USER'@'%' IDENTIFIED BY '$MYSQL_PASSWORD';"
    cat /docker-entrypoint-initdb.d/*.sql
    echo "ALTER USER 'root'@'$MYSQL_ROOT_HOST' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD'; SHUTDOWN;"
  } | sed 's/; /;\n/g' > /tmp/init.sql
  chown mysql /tmp/init.sql
  "${server[@]}" --skip-networking --init-file=/tmp/init.sql
  rm /tmp/init.sql
  touch "$data/initialised"
fi
exec "${server[@]}" --bind-address='*'
