# Reads and writes Perl data for perl.py: one JSON request and one JSON response per line, ASCII only.
use strict;
use warnings;
use Data::Dumper;
use JSON::PP;

# The output of an evaluated text must not mix with the responses.
open(my $responses, '>&', \*STDOUT) or die $!;
open(STDOUT, '>&', \*STDERR) or die $!;
$responses->autoflush(1);

my $json = JSON::PP->new->ascii->allow_nonref->canonical;

# As eHive's Utils::stringify sets it up.
$Data::Dumper::Indent   = 0;
$Data::Dumper::Sortkeys = 1;
$Data::Dumper::Useqq    = 1;
$Data::Dumper::Quotekeys = 1;
$Data::Dumper::Terse    = 1;
$Data::Dumper::Pair     = ' => ';

sub plain {    # JSON's true and false are objects, which another Perl program cannot read
    my ($value) = @_;
    return [ map { plain($_) } @$value ] if ref $value eq 'ARRAY';
    return { map { $_ => plain( $value->{$_} ) } keys %$value } if ref $value eq 'HASH';
    return JSON::PP::is_bool($value) ? ( $value ? 1 : '' ) : $value;
}

sub evaluate {
    my ($text) = @_;
    utf8::encode($text);    # a worker gets bytes from its database
    my $value = do { no strict; no warnings; eval $text };    ## as Params::fuse_param_hashes does
    die $@ if $@;
    return $value;
}

while ( defined( my $line = <STDIN> ) ) {
    my $response = eval {
        my $request = $json->decode($line);
        my $value = exists $request->{read} ? evaluate( $request->{read} ) : Dumper( plain( $request->{write} ) );
        $json->encode( { value => $value } );
    } // $json->encode( { error => "$@" } );
    print {$responses} "$response\n";
}
