#!/usr/bin/perl
# Run a statement: db_cmd.pl -url URL -sql STATEMENT
use strict;
use warnings;

my ($user, $password, $host, $port, $database) = $ARGV[1] =~ m{^mysql://(.*):(.*)@(.*):(.*)/(.*)$} or die 'no URL';
$ENV{MYSQL_PWD} = $password;
exec 'mysql', '--user', $user, '--host', $host, '--port', $port, $database, '--execute', $ARGV[3];
