#!/usr/bin/perl
# Create the practice hive: init_pipeline.pl PracticeHive_conf -pipeline_url URL -hive_force_init 1
use strict;
use warnings;

$ENV{PRACTICE_HIVE_URL} = $ARGV[2];
exec 'python3', '-m', 'tests.support.practice_hive', 'create', map { ('--analysis', $_) } qw(event_dump_dna event_dump_peptide);
