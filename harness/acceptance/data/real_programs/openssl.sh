# SPDX-License-Identifier: MIT
# A key, a server and its client, digests, ciphers, the speed of some.

openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 1 -subj /CN=x 2>/dev/null
openssl x509 -in cert -noout -subject
openssl s_server -accept 127.0.0.1:4433 -key key -cert cert -www >/dev/null 2>&1 &
server=$!
ask() {
	printf 'GET / HTTP/1.0\r\n\r\n' |
		timeout 60 openssl s_client -connect 127.0.0.1:4433 -quiet "$@" 2>/dev/null | head -1
}
until [ "$(ask)" ]; do sleep 0.1; done
ask
ask -tls1_2
kill $server
wait $server
echo "status $?"
openssl speed -seconds 1 -bytes 1024 sha256 2>/dev/null | grep -c '^sha256 '
openssl speed -seconds 1 -bytes 1024 -multi 2 -evp aes-128-gcm 2>/dev/null | grep -ci '^aes-128-gcm '
seq 9999 >s
openssl sha256 s
openssl enc -aes-256-cbc -K 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff \
	-iv 00112233445566778899aabbccddeeff -in s -out t && openssl sha256 t
openssl dgst -sha256 -sign key -out sig s && openssl dgst -sha256 -signature sig \
	-verify <(openssl pkey -in key -pubout) s
