# SPDX-License-Identifier: MIT
# A TLS server and a client that checks its certificate.
# says: Verification: OK
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=dune \
	-keyout key -out cert 2>log
openssl s_server -accept 4433 -key key -cert cert -quiet -www &
until_open 4433
echo | openssl s_client -connect 127.0.0.1:4433 -CAfile cert >answer 2>&1
kill $!
grep -o 'Verification: OK' answer
