#!/bin/bash
# Create the hive of PracticeHive_conf.pm if it does not exist, and run eHive's beekeeper for it.
#
# HIVE_URL is the hive, and HIVE_PASSWORD the password in it, which is masked in all output.
set -e -o pipefail
exec > >(exec sed --unbuffered "s/$HIVE_PASSWORD/***/g") 2>&1
# init_pipeline.pl looks for the package in @INC, even if its argument is a path
export PERL5LIB="$(dirname "$0"):$PERL5LIB"

# Print the last row of a result; fails if the server does not answer.
query() {
  db_cmd.pl -url "$HIVE_URL" -sql "$1" | tail --lines 1
}

# Print the number of rows of a table with a condition; 0 if the table does not exist.
count_rows() {
  local tables
  tables="$(query "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '$1'")"
  if [ "$tables" = 0 ]; then echo 0; else query "SELECT COUNT(*) FROM $1 WHERE $2"; fi
}

analyses="$(count_rows analysis_base "logic_name IN ('event_dump_dna', 'event_dump_peptide')")"
jobs="$(count_rows job TRUE)"
if [ "$analyses" != 2 ]; then # the first start, or an earlier one was interrupted
  if [ "$jobs" != 0 ]; then
    echo "The hive has $jobs jobs, but not the two analyses of PracticeHive_conf.pm: it is not created again"
    exit 1
  fi
  init_pipeline.pl PracticeHive_conf -pipeline_url "$HIVE_URL" -hive_force_init 1
fi
exec beekeeper.pl -url "$HIVE_URL" -loop_until FOREVER -sleep 0.1
