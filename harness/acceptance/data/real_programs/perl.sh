# SPDX-License-Identifier: MIT
# Fork, pipes, alarms, sockets, regular expressions, sorting.

perl -e '
	$| = 1;
	my $p = fork; exit 3 if !$p; waitpid $p, 0; print $? >> 8, "\n";
	$SIG{ALRM} = sub { print "alarm\n"; die "out\n" }; alarm 1;
	eval { 1 while 1 }; print $@;
	pipe my $r, my $w; if (!fork) { close $r; print $w "line $_\n" for 1 .. 3; exit }
	close $w; print while <$r>; wait;
	open my $sort, "|-", "sort -rn" or die; print $sort "$_\n" for 1 .. 5; close $sort;
	print `echo captured`; print system("exit 4") >> 8, "\n";
	my %h; $h{$_ % 7} .= chr(97 + $_ % 26) for 1 .. 200; print join(",", map { "$_$h{$_}" } sort keys %h), "\n";
	(my $t = "x" x 2000 . "y") =~ s/(x+)+y/length $1/e; print "$t\n";
	kill TERM => $$;
'
echo "status $?"
perl -MSocket -e 'socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, 0 or die;
	if (fork) { syswrite $a, "ping\n"; print scalar <$a>; wait } else { my $l = <$b>; syswrite $b, "pong to $l" }'
perl -MPOSIX -e 'printf "%.10f %s\n", sin(1), strftime("%F", gmtime(0)); exit 6'
