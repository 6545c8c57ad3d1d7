#!/usr/bin/perl
# Do the jobs of the practice hive until SIGTERM: beekeeper.pl -url URL ...
use strict;
use warnings;

$ENV{PRACTICE_HIVE_URL} = $ARGV[1];
my $pid = fork // die "fork: $!";
exec 'python3', '-m', 'tests.support.practice_hive', 'work' unless $pid;
$SIG{TERM} = $SIG{INT} = sub { kill 'TERM', $pid };
1 until waitpid($pid, 0) == $pid;
exit($? >> 8);
