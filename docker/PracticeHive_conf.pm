# A hive with the analyses of lookups/process_lookup.json, to try event hooks with real workers of eHive.
package PracticeHive_conf;

use strict;
use warnings;

use base ('Bio::EnsEMBL::Hive::PipeConfig::HiveGeneric_conf');

sub default_options {
    my ($self) = @_;
    return { %{ $self->SUPER::default_options }, pipeline_name => 'event_handling' };
}

sub pipeline_create_commands {
    my ($self) = @_;
    my $result = 'CREATE TABLE result (job_id BIGINT PRIMARY KEY, output LONGTEXT)';    # what is reported
    return [ @{ $self->SUPER::pipeline_create_commands }, $self->db_cmd($result) ];
}

sub pipeline_analyses {
    return [
        map {
            {
                -logic_name => $_,
                -module     => 'Bio::EnsEMBL::Hive::RunnableDB::SystemCmd',
                -parameters => { cmd => 'sleep 5' },
            }
        } qw(event_dump_dna event_dump_peptide)
    ];
}

1;
