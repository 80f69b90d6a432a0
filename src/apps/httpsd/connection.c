// SPDX-License-Identifier: MIT
/*
 * One connection.  In a compartment this is ring 3: no variable of the program, and what it
 * allocates is its own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "httpsd.h"

static const char page[] = "It works.\n";

static ssize_t receive(struct connection *c, char *to, size_t room)
{
	return c->ssl ? SSL_read(c->ssl, to, (int)room) : read(c->fd, to, room);
}

static bool send_all(struct connection *c, const char *from, size_t len)
{
	while (len) {
		ssize_t n = c->ssl ? SSL_write(c->ssl, from, (int)len) : write(c->fd, from, len);

		if (n <= 0)
			return false;
		from += n;
		len -= (size_t)n;
	}
	return true;
}

/* Up to the empty line; false: it does not come, or not in time. */
static bool read_request(struct connection *c)
{
	while (c->got < sizeof(c->request) - 1) {
		ssize_t n = receive(c, c->request + c->got, sizeof(c->request) - 1 - c->got);

		if (n <= 0)
			return false;
		c->got += (size_t)n;
		c->request[c->got] = 0;
		if (strstr(c->request, "\r\n\r\n"))
			return true;
	}
	return false;
}

/*
 * "Echo: LENGTH OFFSET": the mistake of Heartbleed, and worse.  Nobody asks whether the request
 * has that many bytes, and they may begin anywhere; "Echo: LENGTH @ADDRESS" says so outright.
 */
static bool echo(struct connection *c)
{
	const char *header = c->vulnerable ? strstr(c->request, "\r\nEcho: ") : NULL;
	const char *from = c->request;
	unsigned long address;
	long length, offset;

	if (!header)
		return false;
	header += strlen("\r\nEcho: ");
	if (sscanf(header, "%ld @%lx", &length, &address) == 2)
		from = (const char *)address;
	else if (sscanf(header, "%ld %ld", &length, &offset) == 2)
		from += offset;
	else
		return false;
	send_all(c, from, (size_t)length);
	return true;
}

static void answer(struct connection *c)
{
	bool found = !strncmp(c->request, "GET / ", 6);
	const char *body = found ? page : "There is no such page.\n";
	char text[256];
	int len = snprintf(text, sizeof(text),
			   "HTTP/1.0 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
			   "Connection: close\r\n\r\n%s",
			   found ? "200 OK" : "404 Not Found", strlen(body), body);

	send_all(c, text, (size_t)len);
}

void serve_connection(struct connection *c, SSL_CTX *ctx)
{
	if (ctx) {
		c->ssl = SSL_new(ctx);
		if (!c->ssl || !SSL_set_fd(c->ssl, c->fd) || SSL_accept(c->ssl) != 1)
			return;
	}
	if (read_request(c) && !echo(c))
		answer(c);
	if (c->ssl)
		SSL_shutdown(c->ssl);
}
