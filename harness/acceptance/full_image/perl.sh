# SPDX-License-Identifier: MIT
# A child and its status.
# says: 7
perl -e '
	use POSIX;
	my $child = fork;
	exit 7 if !$child;
	wait;
	print WEXITSTATUS($?), "\n";
'
